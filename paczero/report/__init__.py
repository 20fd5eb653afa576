"""The summary of a run and the page for its owner. Imports no torch."""
