"""Several runs: sweeps, their comparison, and the results page."""
