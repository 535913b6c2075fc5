"""Figures of a verdict: one file each, drawn by `album`, alike in print and for any eye."""
