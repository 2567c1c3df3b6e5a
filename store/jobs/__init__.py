"""Jobs of a Batch API, and the journal of what was done with them."""
