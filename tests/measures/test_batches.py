"""Batches that are mappings, outputs that are objects, and a forward of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
)

from hpogen.errors import Refusal
from hpogen.measures import OnlineAgn, gradient_norms, head_statistics, sequence_head

N, C = 10, 3
RANDOM = torch.Generator().manual_seed(0)
IDS = torch.randint(5, 50, (N, 8), generator=RANDOM)
MASK = (torch.arange(8) < torch.arange(N)[:, None] % 5 + 3).long()
LABELS = torch.randint(C, (N,), generator=RANDOM)
BATCH = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}
CONFIG: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": C,
}


@dataclass
class Output:
    logits: Tensor


class Two(nn.Module):
    """Of two named inputs, giving an object, a mapping, or the logits themselves."""

    def __init__(self, kind: str = "object") -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(50, 4), nn.Linear(8, 5)
        self.head, self.kind = nn.Linear(5, C), kind

    def forward(self, *, ids: Tensor, x: Tensor) -> Any:
        hidden = torch.tanh(self.linear(torch.cat([self.embedding(ids).mean(1), x], 1)))
        logits = self.head(hidden)
        return {"object": Output(logits), "mapping": {"logits": logits}}.get(self.kind, logits)


def two() -> dict[str, Tensor]:
    return {"ids": IDS, "x": torch.randn(N, 4, generator=torch.Generator().manual_seed(1))}


def brute_force(model: nn.Module, x: dict[str, Tensor]) -> tuple[list[float], list[float]]:
    """‖∇ loss_i‖² over all parameters, and over those of the last layer."""
    model.eval()
    every, last = [], []
    for i in range(N):
        model.zero_grad()
        given = model(**{name: part[i : i + 1] for name, part in x.items()})
        logits = getattr(given, "logits", given)
        functional.cross_entropy(logits, LABELS[i : i + 1]).backward()
        squares = [float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None]
        every.append(sum(squares))
        last.append(sum(squares[-2:]))
    model.zero_grad()
    return every, last


@pytest.mark.parametrize("kind", ["object", "plain"])
def test_named_inputs_have_the_gradients_of_brute_force(kind: str) -> None:
    torch.manual_seed(0)
    model = Two(kind)
    every, last = brute_force(model, two())
    assert gradient_norms(model, two(), LABELS).tolist() == pytest.approx(every, rel=1e-5)
    head = head_statistics(model, [{**two(), "labels": LABELS}])
    assert head.agn == pytest.approx(sum(last) / N, rel=1e-5)


def test_every_way_of_saying_it_gives_the_same_numbers() -> None:
    torch.manual_seed(0)
    model, x = Two("mapping"), two()
    expected = head_statistics(model, [{**x, "labels": LABELS}]).agn
    for name in ("label", "targets", "target"):
        assert head_statistics(model, [{**x, name: LABELS}]).agn == expected
    pairs = [(x, LABELS)]
    assert head_statistics(model, pairs, forward=lambda m, x: m(**x)).agn == expected
    parts = [{name: part[rows] for name, part in x.items()} for rows in ([0, 1, 2], range(3, N))]
    batches = [{**parts[0], "labels": LABELS[:3]}, {**parts[1], "labels": LABELS[3:]}]
    assert head_statistics(model, batches).agn == pytest.approx(expected, rel=1e-6)
    norms = gradient_norms(model, x, LABELS)
    own = gradient_norms(model, x, LABELS, forward=lambda m, x: m(**x)["logits"])
    assert torch.equal(own, norms)


def test_a_forward_of_parts_of_the_model() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"body": nn.Linear(4, 6), "head": nn.Linear(6, C)})
    whole = nn.Sequential(model["body"], nn.ReLU(), model["head"])
    x = two()["x"]

    def forward(model: Any, x: Tensor) -> Tensor:
        return model["head"](model["body"](x).relu())

    batches = [(x, LABELS), (x, LABELS)]
    assert (
        head_statistics(model, batches, forward=forward).agn == head_statistics(whole, batches).agn
    )
    expected = gradient_norms(whole, x, LABELS)
    assert torch.allclose(gradient_norms(model, x, LABELS, forward=forward), expected)


def test_online_agn_takes_what_the_model_gives() -> None:
    torch.manual_seed(0)
    model = Two("object")
    online = OnlineAgn(model)
    online.update(model(**two()), LABELS)
    expected = head_statistics(model, [{**two(), "labels": LABELS}]).agn
    assert online.epoch_end() == pytest.approx(expected, rel=1e-6)
    model(**two())
    online.update_last(LABELS)
    assert online.mean() == pytest.approx(expected, rel=1e-6)


def test_a_bert_of_hugging_face() -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**CONFIG))
    every, last = brute_force(model, {"input_ids": IDS, "attention_mask": MASK})
    assert head_statistics(model, [BATCH]).agn == pytest.approx(sum(last) / N, rel=1e-5)

    def masked(model: Any, x: dict[str, Tensor]) -> Any:
        mask = x["attention_mask"][:, None, None].bool().expand(-1, 1, 8, -1)
        return model(x["input_ids"], attention_mask=mask)

    inputs = {"input_ids": IDS, "attention_mask": MASK}
    found = gradient_norms(model, inputs, LABELS, forward=masked)
    assert found.tolist() == pytest.approx(every, rel=1e-4)


def test_a_bert_that_labels_tokens() -> None:
    torch.manual_seed(0)
    model = BertForTokenClassification(BertConfig(**CONFIG)).eval()
    labels = (IDS % C).where(MASK.bool(), -100)
    found = sequence_head(model, [{**BATCH, "labels": labels}]).agn
    norms = []
    for i in range(N):
        model.zero_grad()
        one = slice(i, i + 1)
        model(IDS[one], attention_mask=MASK[one], labels=labels[one]).loss.backward()
        layer = model.classifier
        norms.append(float(layer.weight.grad.square().sum() + layer.bias.grad.square().sum()))
    assert found == pytest.approx(sum(norms) / N, rel=1e-5)


@pytest.mark.parametrize(
    ("batch", "line"),
    [
        ({"x": IDS}, "a batch is a dict of 'x', expected tensors, the targets under one of the"),
        ({"x": "text", "labels": LABELS}, "a batch is a dict of 'x', 'labels', expected tensors"),
        ((IDS,), r"a batch is a tuple of Tensor, expected two tensors \(x, y\)"),
    ],
)
def test_a_batch_of_another_kind_is_refused(batch: Any, line: str) -> None:
    with pytest.raises(Refusal, match=f"^{line}"):
        head_statistics(Two(), [batch])


def test_whole_numbers_that_float32_has_not_are_refused() -> None:
    with pytest.raises(Refusal, match="the input 'ids' has numbers of 16777216 and more"):
        gradient_norms(Two(), {**two(), "ids": IDS + 2**25}, LABELS)
