"""Conversations of any shape: turns, tools, and the question that is asked."""
