"""Estimates of requests, tokens and cost, and their text."""
