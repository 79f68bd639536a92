"""A network as a file of its own: `hpogen best --weights` and, for others than torch, `--onnx`."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from hpogen.errors import UserError, explained, text_of
from hpogen.measures.passes import at_least_float32
from hpogen.record.folder import replace_file
from hpogen.training.predictor import Predictor
from hpogen.training.weights import packed

BATCH = 2  # of the example; one is taken for a number that is fixed


def write_weights(net: Predictor, out: Path) -> None:
    """Write the network as a study keeps it: `hpogen.load` reads it, as does safetensors."""
    with explained(out, UserError):
        replace_file(out, packed(net.header, net.tensors))


class _Plain(nn.Module):
    """From inputs as they are, by name, to what the network says of them, as one graph."""

    def __init__(self, net: Predictor) -> None:
        super().__init__()
        self.net = deepcopy(net).cpu().to(memory_format=torch.contiguous_format)
        self.net.layout = torch.contiguous_format

    def forward(self, named: dict[str, Tensor]) -> Tensor:
        x = named if isinstance(self.net.header.raw[0], Mapping) else next(iter(named.values()))
        outputs = at_least_float32(self.net.network(self.net.standardised(x)))
        return self.net.in_unit(outputs)


def name_of(net: Predictor) -> str:
    """What the only input is called."""
    return "images" if net.header.mean else "inputs"


def write_onnx(net: Predictor, out: Path) -> None:
    """Write the network: `images` uint8 (N, C, H, W) to `logits` float32 (N, classes), any N.

    Of other data the input is `inputs`, or each of named ones; of real targets the output is
    `values`. The names of the classes and the rest of the header are in the model's metadata.
    Raises UserError without the packages, and for a network that torch cannot export.
    """
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise UserError("--onnx: needs packages: pip install 'hpogen[onnx]'")
    plain = _Plain(net).eval()
    given = plain.net.example(BATCH)
    examples = given if isinstance(given, Mapping) else {name_of(net): given}
    output = "values" if net.header.inputs.kind == "real" else "logits"
    rows = {0: torch.export.Dim("N")}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # they are about torch's own code
            program = torch.onnx.export(
                plain, kwargs={"named": examples}, input_names=[*examples], output_names=[output],
                dynamic_shapes={"named": dict.fromkeys(examples, rows)}, dynamo=True, verbose=False,
            )  # fmt: skip
    except Exception as error:  # whatever the exporter raises is about the network
        raise UserError(
            f"--onnx: torch cannot export the model {net.header.model!r}: {text_of(error)}"
        ) from error
    assert program is not None
    program.model.metadata_props["hpogen"] = net.header.model_dump_json()
    with explained(out, UserError):
        replace_file(out, program.model_proto.SerializeToString())
