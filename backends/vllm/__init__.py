"""The local engine: vLLM in a process of its own."""
