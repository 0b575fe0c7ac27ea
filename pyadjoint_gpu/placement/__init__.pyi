from .cost import A100, Cost, Machine, placement_cost
from .information import information
from .placing import place_sensors
from .selection import Selection, select

__all__ = [
    "A100",
    "Cost",
    "Machine",
    "Selection",
    "information",
    "place_sensors",
    "placement_cost",
    "select",
]
