"""Prompts in; completions with token ids and log-probs out."""
