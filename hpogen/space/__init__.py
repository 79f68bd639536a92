"""The search space: its parameters, and the way between configurations and the unit cube."""

from hpogen.space.foreign import from_configspace
from hpogen.space.objects import Choice, Constant, Float, Int, space_form
from hpogen.space.space import Point, Space

__all__ = ["Choice", "Constant", "Float", "Int", "Point", "Space", "from_configspace", "space_form"]
