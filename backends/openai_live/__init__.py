"""Live chat completions against any OpenAI-compatible server."""
