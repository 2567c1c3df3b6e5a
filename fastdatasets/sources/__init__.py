"""Datasets: finding them, reading them, and mapping their columns."""
