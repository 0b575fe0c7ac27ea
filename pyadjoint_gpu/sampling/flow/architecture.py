"""Sizes of a flow."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.checks import check_choice, count

KINDS = ("spline", "affine")
MOST = 64
"""Components up to which samplers and their users fit flows."""
REACH = 6.0
"""Splines map whitened components within this distance of their mean, and leave those beyond."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of a flow of n components; hashable, as what compiled code depends on.

    Attributes
    ----------
    n
        Components of x; one component is mapped by splines, whatever the kind.
    kind
        Map of a component in a layer: "affine", or "spline", an affine map and then a monotone
        rational-quadratic spline.
    layers
        Coupling layers, of which each maps one half of the components.
    width
        Units of the one hidden layer of each network.
    knots
        Bins of a spline.
    """

    n: int
    kind: str = "spline"
    layers: int = 6
    width: int = 32
    knots: int = 5

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        for name in ("n", "layers", "width", "knots"):
            count(name, getattr(self, name))
