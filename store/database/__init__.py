"""The DuckDB file of a work store: connection, statements, Arrow tables of rows to insert."""
