"""The arithmetic of Hyperband's brackets: how many configurations run for how many epochs.

The searchers `bohb` and `hyperband` run them, `hpogen check` prints them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from hpogen.errors import Refusal

Count = Annotated[int, Ge(1), Le(10_000)]


@dataclass(frozen=True)
class Rung:
    """`configurations` trained for `budget` epochs, then compared."""

    budget: int
    configurations: int


Bracket = tuple[Rung, ...]
Plan = tuple[Bracket, ...]


def reduction(searcher: str, budgets: Sequence[int]) -> int:
    """η, the ratio of neighbouring budgets. Raises Refusal where there is no such integer."""
    if len(budgets) < 2:
        raise Refusal(f"{searcher}: needs at least two budgets, such as {{min: 40, max: 160, …}}")
    eta = budgets[1] // budgets[0]
    if eta < 2 or any(high != low * eta for low, high in itertools.pairwise(budgets)):
        raise Refusal(f"{searcher}: got budgets {list(budgets)}, expected each η times the last")
    return eta


def bracket(index: int, budgets: Sequence[int], eta: int) -> Bracket:
    """The rungs of the `index`-th bracket, as HpBandSter's `BOHB.get_next_iteration` has them.

    With S budgets, s = S − 1 − (index mod S): ⌊S/(s+1)⌋·ηˢ configurations start at the s-th
    budget from the top, and each further rung has 1/η of them. In integers: HpBandSter's own
    floating logarithms lose a bracket for 1 … 243 with η = 3.
    """
    s = len(budgets) - 1 - index % len(budgets)
    first = len(budgets) // (s + 1) * eta**s
    return tuple(
        Rung(budget, max(first // eta**i, 1)) for i, budget in enumerate(budgets[-s - 1 :])
    )


def plan(budgets: Sequence[int], brackets: int, **_: object) -> Plan:
    """The first `brackets` brackets over ascending `budgets`, whatever the other options."""
    eta = reduction("brackets", budgets)
    return tuple(bracket(i, budgets, eta) for i in range(brackets))
