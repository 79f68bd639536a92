"""The layer whose units are removed: how it is found, watched and masked.

`ablation.py` calls it, and the catalogue when a study is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hpogen.errors import Refusal
from hpogen.measures.batches import Batch, device_of, pairs, tensor_of
from hpogen.measures.crossing import Crossings
from hpogen.measures.other_samples import few
from hpogen.measures.passes import check_finite, uncompiled
from hpogen.measures.separate import Numbers, alone, confirmed
from hpogen.measures.targets import classes_of, labelled


class AblationLayer:
    """A layer of a model; a unit is a position of dimension 1 of its output (B, M, …)."""

    def __init__(self, model: nn.Module, layer: str | None = None) -> None:
        """`layer` is a module's name, by default the model's `ablation_layer`.

        Raises Refusal, naming the model, when there is no such layer.
        """
        self._model = model
        self.name, self._module = _find(model, layer)

    def on_device(self, values: Tensor) -> Tensor:
        return values.to(device_of(self._model))

    def run(self, x: Tensor) -> tuple[Tensor, Tensor, bool]:
        """The logits (B, C) of one forward pass, and the units' means over space (B, M).

        Third, whether the pass sums up, ranks or chooses samples (see `crossing`). Raises
        FloatingPointError for one that is not finite: nothing can be ranked then.
        """
        means: list[Tensor] = []

        def watch(_: nn.Module, inputs: object, output: object) -> None:
            means.append(self._units(output).flatten(2).mean(2))

        with uncompiled(), _hooked(self._module, watch), Crossings(len(x)) as crossings:
            logits = tensor_of(self._model, self._model(x))
        if len(means) != 1:
            raise Refusal(
                f"{self._text} runs {len(means)} times in a forward pass: its units cannot be "
                "told apart"
            )
        if not len(means[0]) == len(logits) == len(x):
            raise Refusal(
                f"{self._text} gives {len(means[0])} rows, and the model {len(logits)}, for "
                f"{len(x)} samples: expected one for each"
            )
        check_finite(logits, "a logit")
        check_finite(means[0], "an activation")
        return logits, means[0], crossings.found

    def are_rows(self, batches: Iterable[Batch]) -> bool:
        """Whether the layer's rows are the samples, which do not change each other's.

        Tried on the first batch in which they differ.
        """
        for x, _ in labelled(pairs(batches)):
            numbers = self._numbers(x, x)
            if numbers is None or not confirmed(self._model, self._numbers, numbers, x, x):
                return False
            if len(x) > 1 and few(x, x)[1]:
                break
        return True

    def require_unmixed(self, batches: Iterable[Batch]) -> None:
        """Raise Refusal, naming the model, where a sample has other logits alone."""
        for x, _ in labelled(pairs(batches)):
            for _ in alone(self._model, self._numbers, x, x):
                pass

    def _numbers(self, x: Tensor, _: Tensor) -> Numbers | None:
        logits, means, crossed = self.run(self.on_device(x))
        return None if crossed else (logits, means)

    def tail(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """A function of `kept` (B, M), 0 where a unit is removed, that gives the logits (B, C).

        In an `nn.Sequential` what comes before the layer runs once, elsewhere every time.
        """
        chain = _chain(self._model)
        if self._module in chain:
            after = chain.index(self._module) + 1
            before = nn.Sequential(*chain[:after])(x)
            rest = nn.Sequential(*chain[after:])
            return lambda kept: rest(self._masked(before, kept))

        def forward(kept: Tensor) -> Tensor:
            with _hooked(self._module, lambda _, inputs, output: self._masked(output, kept)):
                logits: Tensor = self._model(x)
            return logits

        return forward

    def class_sums(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """The sums of the units' means over each class's samples (C, M) float64, and counts (C,).

        Raises ValueError when there is no sample, FloatingPointError as `run`.
        """
        sums, counts = torch.zeros(0), torch.zeros(0)
        for x, y in labelled(pairs(batches)):
            logits, means, _ = self.run(self.on_device(x))
            if not len(sums):
                sums = means.new_zeros(logits.shape[1], means.shape[1]).double()
                counts = torch.zeros_like(sums[:, 0], dtype=torch.int64)
            labels = classes_of(logits, self.on_device(y))
            sums.index_add_(0, labels, means.double())
            counts += labels.bincount(minlength=len(counts))
        if not counts.any():
            raise ValueError("got no samples: the batches are empty")
        return sums, counts

    @property
    def _text(self) -> str:
        return f"the layer {self.name!r} of {type(self._model).__name__}"

    def _units(self, output: object) -> Tensor:
        """The output as (B, M, space)."""
        if not isinstance(output, Tensor) or output.ndim < 2 or output.is_complex():
            raise Refusal(f"{self._text} does not give a real tensor of samples and units")
        return output.detach().reshape(*output.shape[:2], -1)

    def _masked(self, output: Tensor, kept: Tensor) -> Tensor:
        return (self._units(output) * kept[:, :, None]).reshape(output.shape)


def require_ablation_layer(model: nn.Module, images: Tensor) -> None:
    """Raise Refusal, naming the model, unless its `ablation_layer` can be found and run."""
    with torch.no_grad():
        AblationLayer(model).run(images)


def _find(model: nn.Module, layer: str | None) -> tuple[str, nn.Module]:
    name = type(model).__name__
    given = getattr(model, "ablation_layer", None) if layer is None else layer
    if callable(given) and not isinstance(given, nn.Module):
        given = given()
    if given is None:
        raise Refusal(
            f"{name} does not say which layer's units to remove: give it an attribute "
            "ablation_layer, the name of a module"
        )
    for known, module in model.named_modules():
        if module is given or known == given:
            return known, module
    raise Refusal(f"{name} has no module {given!r} (its ablation_layer): see model.named_modules()")


def _chain(model: nn.Module) -> list[nn.Module]:
    """The modules of a plain `nn.Sequential`, which run one after another; else none."""
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        return list(model)
    return []


@contextmanager
def _hooked(module: nn.Module, hook: Callable[..., object]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
