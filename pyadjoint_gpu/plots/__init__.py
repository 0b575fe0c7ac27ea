"""Plots of results, and ``Dataset.pag``."""
