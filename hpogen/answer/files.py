"""A network as a file of its own: `hpogen best --weights` and, for others than torch, `--onnx`."""

from __future__ import annotations

import importlib.util
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from hpogen.errors import UserError, explained, text_of
from hpogen.measures.passes import at_least_float32
from hpogen.record.folder import replace_file
from hpogen.training.data.fitted import Normalization
from hpogen.training.predictor import Predictor
from hpogen.training.weights import packed

INPUT, OUTPUT = "images", "logits"
BATCH = 2  # of the example; one is taken for a number that is fixed


def write_weights(net: Predictor, out: Path) -> None:
    """Write the network as a study keeps it: `hpogen.load` reads it, as does safetensors."""
    with explained(out, UserError):
        replace_file(out, packed(net.header, net.network.state_dict()))


class _Plain(nn.Module):
    """From uint8 images (N, C, H, W) to logits (N, classes), as one graph."""

    def __init__(self, net: Predictor) -> None:
        super().__init__()
        self.network = deepcopy(net.network).to(
            "cpu", memory_format=cast(Any, torch.contiguous_format)
        )
        self.register_buffer("mean", net.get_buffer("mean").cpu())
        self.register_buffer("scale", net.get_buffer("scale").cpu())

    def forward(self, images: Tensor) -> Tensor:
        normalization = Normalization(self.get_buffer("mean"), self.get_buffer("scale"))
        logits: Tensor = self.network(normalization(images, torch.contiguous_format))
        return at_least_float32(logits)


def write_onnx(net: Predictor, out: Path) -> None:
    """Write the network: `images` uint8 (N, C, H, W) to `logits` float32 (N, classes), any N.

    The names of the classes and the rest of the header are in the model's metadata. Raises
    UserError without the packages, and for a network that torch cannot export.
    """
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise UserError("--onnx: needs packages: pip install 'hpogen[onnx]'")
    example = torch.zeros(BATCH, *net.in_shape, dtype=torch.uint8)
    shapes = {INPUT: {0: torch.export.Dim("N")}}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # they are about torch's own code
            program = torch.onnx.export(
                _Plain(net).eval(), (example,), input_names=[INPUT], output_names=[OUTPUT],
                dynamic_shapes=shapes, dynamo=True, verbose=False,
            )  # fmt: skip
    except Exception as error:  # whatever the exporter raises is about the network
        raise UserError(
            f"--onnx: torch cannot export the model {net.header.model!r}: {text_of(error)}"
        ) from error
    assert program is not None
    program.model.metadata_props["hpogen"] = net.header.model_dump_json()
    with explained(out, UserError):
        replace_file(out, program.model_proto.SerializeToString())
