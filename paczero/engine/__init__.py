"""Computes losses, scores and generated texts with as few operations as possible."""
