"""Prices, token counts, and quotes of both."""
