"""Banks as files, those of other programs included."""
