"""The zeroth-order engine in torch: models, directions, forward passes, derivatives, updates, replay, the one loop."""
