"""Normalizing flows: densities on R^n that are learned from samples, and can be sampled."""
