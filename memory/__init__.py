"""Cases, their vectors and what became of those who read them. A leaf: it knows no model."""
