"""The command line: reads options, makes one call, prints."""
