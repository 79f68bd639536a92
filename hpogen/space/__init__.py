"""The search space: its parameters, and the way between configurations and the unit cube."""

from hpogen.space.parameters import Choice, Constant, Number, Parameter
from hpogen.space.space import Point, Space

__all__ = ["Choice", "Constant", "Number", "Parameter", "Point", "Space"]
