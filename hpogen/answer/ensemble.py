"""Several networks that predict together, by the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from hpogen.training.data.fitted import X
from hpogen.training.predictor import Predictor


class EnsemblePredictor(nn.Module):
    """`net(inputs)`: as a `Predictor` takes them, to the logarithm of the mean probabilities.

    That is (N, classes) float64, and may stand where a network's logits do: its softmax is the
    weighted mean of the members' softmaxes, and of one logit (N, 1) its sigmoid is. It is in
    evaluation mode. `header` is that of the first member, which weighs most; `members` has them
    all.
    """

    def __init__(self, members: Sequence[Predictor], weights: Sequence[float]) -> None:
        super().__init__()
        self.members, self.weights = nn.ModuleList(members), tuple(weights)
        first = members[0]
        self.header, self.batch = first.header, min(net.batch for net in members)
        self.classes, self.in_shape = first.classes, first.in_shape
        self.class_names = first.class_names
        self.eval()

    def encoded(self, given: Any) -> X:
        """As of a member: all have the study's data set."""
        return self._first.encoded(given)

    def check(self, x: Any) -> None:
        """As of a member."""
        self._first.check(x)

    @property
    def _first(self) -> Predictor:
        return cast(Predictor, self.members[0])

    def forward(self, x: Any) -> Tensor:
        """Raises UserError for inputs of another kind or size."""
        parts = zip(self.members, self.weights, strict=True)
        logs = [_logs(net(x).double()) + math.log(weight) for net, weight in parts]
        found = torch.stack(logs).logsumexp(0)
        return found if self.classes > 1 else found[:, 1:] - found[:, :1]


def _logs(logits: Tensor) -> Tensor:
    """The logarithms of the classes' probabilities, of one logit those of no and yes."""
    if logits.shape[1] > 1:
        return logits.log_softmax(1)
    return logsigmoid(torch.cat([-logits, logits], 1))
