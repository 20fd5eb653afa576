"""Text in: files, units, prompts, tokens, micro-batches, scores. Imports no torch."""
