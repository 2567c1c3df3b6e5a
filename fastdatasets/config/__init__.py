"""Configuration: of a run, of a command, and the settings."""
