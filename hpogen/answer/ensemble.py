"""Several networks that predict together, by the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpogen.training.predictor import Predictor


class EnsemblePredictor(nn.Module):
    """`net(images)`: uint8 images (N, C, H, W) to the logarithm of the mean probabilities.

    That is (N, classes) float64, and may stand where a network's logits do: its softmax is the
    weighted mean of the members' softmaxes. It is in evaluation mode. `header` is that of the first
    member, which weighs most; `members` has them all.
    """

    def __init__(self, members: Sequence[Predictor], weights: Sequence[float]) -> None:
        super().__init__()
        self.members, self.weights = nn.ModuleList(members), tuple(weights)
        first = members[0]
        self.header, self.batch = first.header, min(net.batch for net in members)
        self.classes, self.in_shape = first.classes, first.in_shape
        self.class_names = first.class_names
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Raises UserError for images of another kind or size."""
        parts = zip(self.members, self.weights, strict=True)
        logs = [net(images).double().log_softmax(1) + math.log(weight) for net, weight in parts]
        return torch.stack(logs).logsumexp(0)
