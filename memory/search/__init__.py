"""Embedders, the spaces that they make, and the indexes over them."""
