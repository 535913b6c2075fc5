"""The other two memories of an agent: its subtasks and its tools."""
