"""The Batch API as servers speak it: calls, batch objects, lines of output files."""
