"""Answers page by page, what was found of them, and the files they are exported to."""
