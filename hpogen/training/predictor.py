"""A trained network that takes inputs as the data set gives them: what was fitted is inside.

`answer/load.py` makes it of a trial's kept weights, or of its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from hpogen.errors import UserError, shortened
from hpogen.measures.as_found import kept
from hpogen.measures.batches import moved, tensor_of
from hpogen.measures.passes import at_least_float32
from hpogen.training.checkpoint import Checkpoints
from hpogen.training.data.fitted import Normalization, X
from hpogen.training.data.stored import (
    INPUTS,
    TARGETS,
    Tensors,
    check_shapes,
    divided,
    fit_of,
    within,
)
from hpogen.training.forms.task import Settings
from hpogen.training.given import check, encoded
from hpogen.training.memory import evaluation_batch
from hpogen.training.models.build import build, example
from hpogen.training.precision import autocast, set_arithmetic
from hpogen.training.recipe import begin, memory_format_of
from hpogen.training.state import judged, losses_of
from hpogen.training.weights import Header, header_of, tensors_of, unpacked
from hpogen.trial import RunningTrial


class Predictor(nn.Module):
    """`net(inputs)`: inputs (N, …) as the data set gives them, to what the network says of them.

    Images are uint8 (N, C, H, W), of values from 0 to 255. A table with categories is "numbers"
    (N, D), NaN where one is missing, and "categories" (N, C); `encoded` makes them of a file, as it
    makes token ids of lines of text. It gives logits (N, classes), of positions (N, T, classes), or
    real numbers in the unit of the target.

    It is in evaluation mode, its parameters ask for no gradient. Many samples go through it by
    `batch`, as those of the trial's evaluations did: on a device of the same kind the logits are
    the same bit for bit. `header` says what it is and where it comes from.
    """

    def __init__(self, header: Header, tensors: Tensors, device: torch.device) -> None:
        """Builds the network. Raises UserError where the weights are not this hpogen's model's."""
        super().__init__()
        self.header = header
        self.classes, self.in_shape = header.classes, header.in_shape
        self.class_names = header.names
        network = _untrained(header)
        same = device.type == header.device
        self.layout = memory_format_of(network, header.precision, device)
        if same:
            self.layout = getattr(torch, header.layout)
        network = network.to(device=device, memory_format=self.layout)  # type: ignore[call-overload]
        own, fits = divided(tensors)
        _fill(network, header, own)
        self.network = network
        shape, dtype = header.inputs.in_shape, header.inputs.dtype
        self.batch = header.batch if same else evaluation_batch(network, shape, device, dtype)
        self._kept = tuple(fits)  # the others stand in the header
        self._hold({**fits, **_of_images(header)}, device)
        self.requires_grad_(False)
        self.eval()

    def _hold(self, fits: Tensors, device: torch.device) -> None:
        """As buffers, which go where the network goes. Raises UserError for those of another."""
        self._names = tuple(fits)
        for i, tensor in enumerate(fits.values()):
            self.register_buffer(f"fit{i}", tensor.to(device), persistent=False)
        seen = self.header.inputs
        try:
            if not self.header.mean:
                check_shapes(fits, self.header.raw[0])
            found = _outline(self.standardised(self.example(1)))
            self.in_unit(torch.zeros(1, seen.outputs, device=device))
        except (KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise _of_another(self.header, error) from error
        if found != _outline(example(seen.in_shape, seen.dtype, 1)):
            raise _of_another(self.header, ValueError(f"its inputs come to be {found}"))

    @property
    def fits(self) -> dict[str, Tensor]:
        """What was fitted to the data, by the names of `data/stored.py`."""
        return {name: self.get_buffer(f"fit{i}") for i, name in enumerate(self._names)}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What a file of the network holds."""
        return {**self.network.state_dict(), **{name: self.fits[name] for name in self._kept}}

    def example(self, count: int) -> Any:
        """Inputs of so many samples, all zeros."""
        return example(*self.header.raw, count, str(self.device))

    def encoded(self, given: Any) -> X:
        """The inputs of a table or of lines of text, for a network that was trained on such.

        Either may be a file. Else a table is whatever `pyarrow.table` takes, a mapping of columns
        or a data frame, and lines are a list of strings. Columns are found by their names. Raises
        UserError for what the network does not take.
        """
        return encoded(given, self.header, self.fits)

    def check(self, x: Any) -> None:
        """Raises UserError for inputs of another kind or size, or with numbers that are none."""
        check(x, self.header, self.fits)

    def forward(self, x: Any) -> Tensor:
        """Raises UserError for inputs of another kind or size."""
        return self.in_unit(self.outputs(x))

    def outputs(self, x: Any) -> Tensor:
        """What the network itself gives: of real targets, standardised numbers."""
        self.check(x)
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        count = _rows(x)
        as_found = nullcontext() if learns else kept(self.network)
        with _as_trained(self.header, self.device), torch.set_grad_enabled(learns), as_found:
            x = moved(x, self.device) if count else self.example(1)
            starts = range(0, max(count, 1), self.batch)
            parts = [self._outputs(part_of(x, slice(i, i + self.batch))) for i in starts]
        return torch.cat(parts)[:count]

    def _outputs(self, x: X) -> Tensor:
        x = self.standardised(x)  # (B, …)
        with autocast(self.header, self.device):
            return at_least_float32(tensor_of(self.network, self.network(x)))

    def standardised(self, x: X) -> X:
        """Inputs as the network sees them."""
        shape = self.header.raw[0]
        fit = fit_of(within(INPUTS, self.fits), shape if isinstance(shape, Mapping) else None)
        found: X = fit(x, self.layout)
        return found

    def in_unit(self, outputs: Tensor) -> Tensor:
        """Outputs in the unit of the target, where that is one of real numbers."""
        unit = within(TARGETS, self.fits)
        return Normalization(**unit).undone(outputs) if unit else outputs

    @property
    def device(self) -> torch.device:
        found: torch.device = next(self.network.parameters()).device
        return found


def _of_images(header: Header) -> dict[str, Tensor]:
    """What images are standardised by."""
    given = {"mean": header.mean, "scale": header.scale} if header.mean else {}
    return {f"{INPUTS}{name}": torch.tensor(v).view(1, -1, 1, 1) for name, v in given.items()}


def _rows(x: X) -> int:
    return len(next(iter(x.values()))) if isinstance(x, Mapping) else len(x)


def part_of(x: X, part: slice) -> X:
    """The inputs of a stretch of samples."""
    return {n: one[part] for n, one in x.items()} if isinstance(x, Mapping) else x[part]


def _outline(x: X) -> Any:
    """Shapes and types."""
    if isinstance(x, Mapping):
        return {name: _outline(part) for name, part in x.items()}
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"


def _untrained(header: Header) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):
            return build(header.model, header.options, header.inputs)
    except (TypeError, ValueError) as error:  # options that it had in another version
        raise _of_another(header, error) from error


def _fill(network: nn.Module, header: Header, tensors: Tensors) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise _of_another(header, error) from error


def _of_another(header: Header, error: Exception) -> UserError:
    return UserError(
        f"the weights are not those of the model {header.model!r} as it is here, but as in hpogen "
        f"{header.hpogen}: {shortened(error)}: install that version, or train them again"
    )


@contextmanager
def _as_trained(header: Header, device: torch.device) -> Iterator[None]:
    """Inside, this process computes as the trial's evaluations did."""
    threads = torch.get_num_threads()
    torch.set_num_threads(header.threads)
    try:
        with _on_gpu(header, device) if device.type == "cuda" else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _on_gpu(header: Header, device: torch.device) -> Iterator[None]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    conv = cudnn.conv  # type: ignore[attr-defined]
    before = cudnn.deterministic, cudnn.benchmark, matmul.fp32_precision, conv.fp32_precision
    set_arithmetic(header, device)
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before[:2]
        matmul.fp32_precision, conv.fp32_precision = before[2:]


def predictor(data: bytes, where: str, device: torch.device) -> Predictor:
    """The network of a file of weights. Raises UserError beginning with `where` the file is."""
    header, tensors = unpacked(data, where)
    try:
        return Predictor(header, tensors, device)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def from_checkpoint(
    settings: Settings, trial: RunningTrial, wanted: frozenset[str]
) -> Predictor | None:
    """The network at the end of the trial's budget; None where its checkpoint was not kept.

    `wanted` is what the study wants, as in training. Raises UserError where the data set, which
    has the normalisation, is not to be had.
    """
    with torch.random.fork_rng(devices=[]):
        recipe, _ = begin(settings, trial, wanted)
    saved = Checkpoints(trial, recipe.plan.running, continuable=False).load()
    if saved is None or not recipe.over(losses_of(saved["curve"])):
        return None
    return Predictor(header_of(recipe), tensors_of(recipe, judged(saved)), recipe.device)
