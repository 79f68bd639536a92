"""The autograd graph behind a loss: its nodes, and how often each parameter is used.

`network.py` counts with it whether it knows every use of a parameter.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor

from hpogen.errors import Refusal


class Graph:
    """Each node at or behind `root` with what is behind it, and the uses of each leaf.

    Raises Refusal for a checkpoint that hides what it computed.
    """

    def __init__(self, root: Any) -> None:
        self.nodes: dict[Any, list[Any]] = {}
        self.uses: Counter[Tensor] = Counter()
        stack = [root]
        while stack:
            node = stack.pop()
            if node in self.nodes:
                continue
            children = [child for child, _ in node.next_functions if child is not None]
            self.nodes[node] = children
            if node.name() == "CheckpointFunctionBackward":
                raise Refusal("reentrant checkpoints hide their layers: pass use_reentrant=False")
            for child in children:
                if hasattr(child, "variable"):
                    self.uses[child.variable] += 1
            stack += children

    def ends(self, chosen: set[Any]) -> set[Any]:
        """Those of the chosen nodes behind which there is no other one."""
        behind: dict[Any, bool] = {}  # whether a chosen node is at or behind this one
        ends = set()
        stack = [(node, False) for node in chosen]
        while stack:
            node, seen = stack.pop()
            if seen:
                deeper = any(behind[child] for child in self.nodes[node])
                behind[node] = deeper or node in chosen
                if node in chosen and not deeper:
                    ends.add(node)
            elif node not in behind:
                behind[node] = False
                stack.append((node, True))
                stack += [(child, False) for child in self.nodes[node]]
        return ends
