"""Iterative solvers of r(u) = 0, for forward, adjoint and tangent problems alike."""

from .base import Convergence, Operator, Spectrum

__all__ = ["Convergence", "Operator", "Spectrum"]
