"""Minimisation of a problem's objective: optimisers, journals, adaptive tolerances."""
