"""The wire of OpenAI's API: calls, answers, errors, and what each provider does otherwise."""
