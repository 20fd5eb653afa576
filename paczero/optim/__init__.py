"""Directions, perturbed parameters, derivatives and updates: zeroth-order optimisation."""
