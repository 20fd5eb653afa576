"""What a run publishes: weights, statement, model card, plots; and its replay."""
