"""Whole writes, safe csv cells, numbers in words: what every layer may use."""
