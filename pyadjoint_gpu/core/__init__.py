"""Foundations of all other rooms: grids, quantities, checks, files, journals, precision."""
