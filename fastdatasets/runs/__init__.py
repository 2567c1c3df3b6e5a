"""Runs: their folders, what they are, where they are, and answers that others take from them."""
