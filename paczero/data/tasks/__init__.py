"""The tasks: what a prompt is, what is scored, and which metrics are reported."""
