"""One SQLite file: cases, vectors, reads, outcomes and their history."""
