"""Engines, which solve the equations of models: in JAX, or in Julia."""
