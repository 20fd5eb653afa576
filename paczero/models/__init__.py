"""Loads a model, finds its layers, attaches adapters and places what does not fit in memory."""
