"""A trained network that takes images as they are: its normalisation is inside.

`answer/load.py` makes it of a trial's kept weights, or of its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from hpogen.errors import UserError, shortened
from hpogen.measures.as_found import kept
from hpogen.measures.passes import at_least_float32, tensor_of
from hpogen.training.checkpoint import Checkpoints
from hpogen.training.data.fitted import Normalization
from hpogen.training.forms.inputs import Inputs
from hpogen.training.forms.task import Settings
from hpogen.training.memory import evaluation_batch
from hpogen.training.models.build import build
from hpogen.training.precision import autocast, set_arithmetic
from hpogen.training.recipe import begin, memory_format_of
from hpogen.training.state import judged, losses_of
from hpogen.training.weights import Header, Tensors, header_of, unpacked
from hpogen.trial import RunningTrial


class Predictor(nn.Module):
    """`net(images)`: uint8 images (N, C, H, W), of values from 0 to 255, to logits (N, classes).

    It is in evaluation mode, its parameters ask for no gradient. Many images go through it by
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
        _fill(network, header, tensors)
        self.network = network
        self.batch = header.batch if same else evaluation_batch(network, self.in_shape, device)
        for name in ("mean", "scale"):
            values = torch.tensor(getattr(header, name), device=device).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Raises UserError for images of another kind or size."""
        self._check(images)
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if not len(images):
            return torch.zeros(0, self.classes, device=self.device)
        as_found = nullcontext() if learns else kept(self.network)
        with _as_trained(self.header, self.device), torch.set_grad_enabled(learns), as_found:
            batches = torch.split(images.to(self.device), self.batch)
            return torch.cat([self._logits(batch) for batch in batches])

    def _logits(self, images: Tensor) -> Tensor:
        normalization = Normalization(self.get_buffer("mean"), self.get_buffer("scale"))
        x = normalization(images, self.layout)  # (B, C, H, W)
        with autocast(self.header, self.device):
            return at_least_float32(tensor_of(self.network, self.network(x)))

    @property
    def device(self) -> torch.device:
        return self.get_buffer("mean").device

    def _check(self, images: Tensor) -> None:
        channels, height, width = self.in_shape
        if images.dtype != torch.uint8 or images.shape[1:] != self.in_shape or images.ndim != 4:
            raise UserError(
                f"got images {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}, "
                f"expected uint8 (N, {channels}, {height}, {width}) of values from 0 to 255"
            )


def _untrained(header: Header) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):
            return build(header.model, header.options, Inputs(header.in_shape, header.classes))
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
    return Predictor(header_of(recipe), judged(saved), recipe.device)
