"""Recomputes a run's journal with 50 digits; shares nothing with the ledger."""
