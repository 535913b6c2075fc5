"""From a question to the cases that are shown."""
