"""Jobs of a Batch API, and the journal of their events."""
