"""Stages: prompts, requests, and variants read from answers."""
