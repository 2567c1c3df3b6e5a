"""The DuckDB file under a work store, and rows on their way into it."""
