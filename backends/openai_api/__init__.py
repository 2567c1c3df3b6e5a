"""OpenAI's API: the client, completions, errors, and differences between providers."""
