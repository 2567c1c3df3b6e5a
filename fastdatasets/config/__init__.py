"""What a run is, how a command works on it, and the settings that decide the rest."""
