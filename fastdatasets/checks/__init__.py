"""Checks of answers: each gives a verdict with a reason, and none deletes an answer."""
