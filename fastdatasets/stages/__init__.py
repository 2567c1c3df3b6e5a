"""What a run asks: prompts, and rows that are read out of answers."""
