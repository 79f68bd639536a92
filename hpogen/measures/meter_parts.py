"""What a `Meter` is made of: the measures that are computed from the same, together."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpogen.errors import UserError
from hpogen.measures.batches import (
    Batch,
    Forward,
    device_of,
    each_input,
    moved,
    pair,
    pairs,
    size_of,
)
from hpogen.measures.distributed import unwrapped
from hpogen.measures.head_pass import HeadCollector, tried
from hpogen.measures.last_linear import require_last_linear
from hpogen.measures.network import per_sample_gradients
from hpogen.measures.network_moments import MomentSums
from hpogen.measures.online import OnlineAgn
from hpogen.measures.packed import OneTensor
from hpogen.measures.passes import check_finite, forward_pass, undisturbed
from hpogen.measures.sequence_pass import SequenceHeadCollector
from hpogen.measures.targets import labelled
from hpogen.measures.uses import Gradients
from hpogen.plugins import Measure, Measured

PER_SAMPLE = ("gn", "gsnr", "osgr", "same_sign")


class Part(Protocol):
    """The measures of a meter that are made of the same."""

    def add(self, batches: Iterable[Any]) -> None: ...

    def compute(self) -> dict[str, float]: ...

    def reset(self) -> None: ...

    def begin(self) -> None: ...

    def close(self) -> None: ...


def parts_of(
    measures: Sequence[Measure], model: nn.Module, per_layer: bool, forward: Forward | None
) -> list[Part]:
    head = [m for m in measures if m.of == "head"]
    gradients = [m for m in measures if m.name in PER_SAMPLE]
    steps = [m for m in measures if m.of == "step"]
    rest = [m for m in measures if m not in (*head, *gradients, *steps)]
    parts: list[Part] = []
    if steps:  # first: the others run the model
        parts.append(Steps(model, forward))
    if head:
        parts.append(Head(head, model, forward))
    if gradients:
        parts.append(PerSample(gradients, model, per_layer, forward))
    if rest:
        parts.append(Kept(rest, model, forward))
    return parts


class _Open:
    """Holds nothing open."""

    def begin(self) -> None: ...

    def close(self) -> None: ...


class Head(_Open):
    """Those of the last layer, from one pass; of sequences where there are logits (N, T, C)."""

    def __init__(
        self, measures: Sequence[Measure], model: nn.Module, forward: Forward | None
    ) -> None:
        self._measures, self._model, self._forward = measures, model, forward
        self.reset()

    def reset(self) -> None:
        moments = any(measure.reads != "forms" for measure in self._measures)
        self._rows = HeadCollector(self._model)
        self._sequences = SequenceHeadCollector(self._model, moments=moments)
        self._used: Any = None

    def add(self, batches: Iterable[Any]) -> None:
        model, forward = self._model, self._forward
        given: Iterable[Any] = labelled(pairs(batches, named=True))
        if self._used is None:
            given = tried(model, given, self, forward)
        with torch.inference_mode(False), self._rows, self._sequences:
            for _ in forward_pass(model, given, _Collect(self), forward=forward):
                pass

    def forget(self) -> None:
        self._rows.forget()
        self._sequences.forget()

    def collect(self, logits: Tensor, labels: Tensor) -> None:
        used: Any = self._sequences if logits.ndim == 3 else self._rows
        used.add(logits, labels)
        self._used = used

    def compute(self) -> dict[str, float]:
        if self._used is None:
            raise ValueError("got no samples: the batches are empty")
        head = self._used.result()
        return _numbers((measure, measure.resolve()(head)) for measure in self._measures)


class _Collect:
    def __init__(self, head: Head) -> None:
        self.add = head.collect


class PerSample(_Open):
    """gn and the GSNR paper's, from the gradient of each sample by all parameters."""

    def __init__(
        self,
        measures: Sequence[Measure],
        model: nn.Module,
        per_layer: bool,
        forward: Forward | None,
    ) -> None:
        self._names = [measure.name for measure in measures]
        self._model = OneTensor(unwrapped(model), forward)
        self._layers = _layers(unwrapped(model)) if per_layer else {}
        self.reset()

    def reset(self) -> None:
        self._norms: dict[str, float] = {}
        self._moments = MomentSums("same_sign" in self._names)
        self._count = 0

    def add(self, batches: Iterable[Any]) -> None:
        with undisturbed(self._model.model):
            for x, y in labelled(pairs(batches, named=True)):
                model, one = self._model.of(x)
                self._prefix = "" if model is self._model.model else "model."
                per_sample_gradients(model, one, y, functional.cross_entropy, self._take)
                self._count += len(one)

    def _take(self, name: str, samples: slice, gradients: Gradients) -> None:
        name = name.removeprefix(self._prefix)
        if "gn" in self._names:
            norms = gradients.squared_norms()
            check_finite(norms, "a gradient")
            self._norms[name] = self._norms.get(name, 0.0) + float(norms.sum())
        if self._names != ["gn"]:
            self._moments.add(name, samples, gradients)

    def compute(self) -> dict[str, float]:
        if not self._layers:
            return self._of(None)
        seen = {*self._norms, *self._moments.sums}
        return {
            f"{metric}/{layer}": value
            for layer, names in self._layers.items()
            if seen & names
            for metric, value in self._of(names).items()
        }

    def _of(self, names: Collection[str] | None) -> dict[str, float]:
        moments = self._moments.result(self._count, names)
        found: dict[str, float] = {}
        for name in self._names:
            if name == "gn":
                norms = (v for p, v in self._norms.items() if names is None or p in names)
                found["gn"] = sum(norms) / self._count
            elif name == "gsnr":
                found |= moments.gsnr_family("gsnr")
            else:
                found[name] = float(getattr(moments, name))
        return found


def _layers(model: nn.Module) -> dict[str, set[str]]:
    """The trained parameters of each module that has some of its own, by their names."""
    layers: dict[str, set[str]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            layers.setdefault(name.rpartition(".")[0] or type(model).__name__, set()).add(name)
    return layers


class Kept(_Open):
    """Those that go through the batches several times, or look at the weights alone."""

    def __init__(
        self, measures: Sequence[Measure], model: nn.Module, forward: Forward | None
    ) -> None:
        self._measures = measures
        self._model = OneTensor(unwrapped(model), forward)
        self._before: OneTensor | None = None
        if any(measure.initial for measure in measures):
            self._before = OneTensor(copy.deepcopy(unwrapped(model)), forward)
        self.reset()

    def reset(self) -> None:
        self._batches: list[tuple[Any, Tensor]] = []

    def add(self, batches: Iterable[Any]) -> None:
        self._batches += [(x, y) for x, y in pairs(batches, named=True) if size_of(x)]

    def compute(self) -> dict[str, float]:
        if not self._batches:
            raise ValueError("got no samples: the batches are empty")
        model, before = self._model, self._before
        plain: list[Batch] = []
        models = set()
        for x, y in self._batches:
            device = device_of(model.model)
            found, one = model.of(moved(x, device))
            models.add(found)
            plain.append((one, y.to(device)))
        if len(models) > 1:
            raise UserError(
                f"Meter: {self._measures[0].name!r} takes batches of one shape, and got named "
                f"inputs of {len(models)}: pad them to one length"
            )
        untrained = [before.of(self._batches[0][0])[0]] if before else []
        found = models.pop()
        return _numbers(
            (measure, measure.resolve()(found, plain, *(untrained if measure.initial else ())))
            for measure in self._measures
        )


class Steps:
    """agn_online, from the training forwards of one epoch."""

    def __init__(self, model: nn.Module, forward: Forward | None) -> None:
        self._model, self._forward = model, forward
        self._online = OnlineAgn(model)
        self._tried = False

    def add(self, batches: Iterable[Any]) -> None:
        for batch in batches:
            x, y = pair(batch)
            self._online.update_last(y)
            if not self._tried:
                self._tried = True
                two = moved(each_input(x, lambda part: part[:2].clone()), device_of(self._model))
                with undisturbed(self._model):
                    require_last_linear(self._model, two, self._forward)

    def compute(self) -> dict[str, float]:
        return {"agn_online": self._online.mean()}

    def reset(self) -> None:
        self._online.clear()

    def begin(self) -> None:
        self._online.begin()

    def close(self) -> None:
        self._online.close()


def _numbers(given: Iterable[tuple[Measure, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for measure, value in given:
        value = value.metrics if isinstance(value, Measured) else value
        named = value if isinstance(value, Mapping) else {measure.name: value}
        found |= {name: float(number) for name, number in named.items()}
    return found
