"""What a run cost: usage and prices in exact numbers, charges, and the bill."""
