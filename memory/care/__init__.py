"""Keeping a bank in order: forgetting, consolidating, counting, scanning for leaks."""
