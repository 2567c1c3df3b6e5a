"""Two runs compared: figures, pairs of answers for a judge, and their text."""
