"""Which known layers a forward pass applies, and the backward pass through them.

`network.py` enters it around the one forward and calls the one backward. The autograd graph tells
whether every use of a parameter is known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from hpogen.errors import Refusal
from hpogen.measures.crossing import Crossings
from hpogen.measures.layers import RULES
from hpogen.measures.other_samples import Verdict
from hpogen.measures.passes import at_least_float32
from hpogen.measures.uses import Gradients, Use

Sink = Callable[[str, slice, Gradients], None]
"""Takes, parameter by parameter (its name), the gradients of some of the samples."""


@dataclass(frozen=True)
class _Layer:
    edge: GradientEdge  # the layer's output in the autograd graph
    uses: list[tuple[Tensor, Callable[[Tensor], Use]]]


class Watch(Crossings):
    """Records, too, which known layers run while it is entered, and differentiates through them."""

    def __init__(self, names: Mapping[Tensor, str], count: int) -> None:
        super().__init__(count)
        self._names = names
        self._count = count
        self._called: list[Any] = []
        self._layers: list[_Layer] = []
        self._waiting: Counter[Tensor] = Counter()  # uses that the backward has not reached
        self._reached: defaultdict[Tensor, list[Use]] = defaultdict(list)
        self._finished: Callable[[Tensor, Gradients], None]
        self._hooks: list[RemovableHandle] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        output = super().__torch_function__(func, types, args, options)
        self._called.append(func)
        if func in RULES:
            self._record(RULES[func], output, args, options)
        return output

    def _record(self, rule: Any, output: Tensor, args: Any, options: Any) -> None:
        if not output.requires_grad or output.is_complex() or len(output) != self._count:
            return
        uses = [(p, use) for p, use in rule(*args, **options) if p is not None and p in self._names]
        if uses:
            layer = _Layer(get_gradient_edge(output), uses)
            hook: Any = output.register_hook
            self._hooks.append(hook(lambda b: self._reach(layer, b)))
            self._layers.append(layer)

    @property
    def path(self) -> int:
        """A number for the functions that ran, in their order."""
        return hash(tuple(self._called))

    def differentiate(self, total: Tensor, sink: Sink, verdict: Verdict) -> dict[Tensor, str]:
        """Run the backward pass; the parameters that the recorded uses are not all of are left.

        So are those that the verdict does not trust. Only gradients of outputs are computed, none
        of weights.
        """
        graph = Graph(total.grad_fn)
        known = [] if self.found else self._layers
        layers = [layer for layer in known if layer.edge.node in graph.nodes]
        recorded = Counter(p for layer in layers for p, _ in layer.uses)
        unknown = {
            p: name
            for p, name in self._names.items()
            if graph.uses[p] != recorded[p] or name in verdict.slow
        }

        def finished(p: Tensor, gradients: Gradients) -> None:
            name = self._names[p]
            if verdict.trusts(name, gradients):
                sink(name, slice(0, self._count), gradients)
            else:
                unknown[p] = name

        self._finished = finished
        self._waiting = Counter({p: n for p, n in recorded.items() if p not in unknown})
        ends = graph.ends({layer.edge.node for layer in layers})
        edges = [layer.edge for layer in layers if layer.edge.node in ends]
        if edges:
            with _uncast(total.device.type):
                torch.autograd.grad(total, edges, allow_unused=True)
        for p in list(self._reached):  # a use that no gradient came to adds nothing
            self._finish(p)
        return unknown

    def close(self) -> None:
        """Take the hooks off the graph, which would keep it alive."""
        for hook in self._hooks:
            hook.remove()

    def _reach(self, layer: _Layer, b: Tensor) -> None:
        b = at_least_float32(b.detach())
        for p, use in layer.uses:
            if self._waiting[p]:
                self._reached[p].append(use(b))
                self._waiting[p] -= 1
                if not self._waiting[p]:
                    self._finish(p)
        layer.uses.clear()

    def _finish(self, p: Tensor) -> None:
        gradients = Gradients(self._reached.pop(p), self._count, p.numel(), p.device)
        self._finished(p, gradients)


def _uncast(device: str) -> AbstractContextManager[object]:
    """No autocast inside: norms are computed in at least float32."""
    available = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if available else nullcontext()


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
