"""What is said of a run: statement, model card, figures, the page for its owner. Imports no torch."""
