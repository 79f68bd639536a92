"""Measures of one's own: from the last layer's statistics, or from the whole network."""

import torch

from hpogen.plugins import measure


@measure("output_margin", of="head")
def output_margin(head):
    """Median of the label's logit minus the largest other one, over the training subset."""
    labels = head.labels[:, None]  # (N, 1)
    own = head.logits.gather(1, labels)[:, 0]  # (N,)
    other = head.logits.scatter(1, labels, -torch.inf).amax(1)  # (N,)
    return (own - other).median().item()


@measure("parameter_norm", of="network", final=True)
def parameter_norm(model, batches):
    """Euclidean norm of all parameters, at the last epoch only; the images are not needed."""
    squares = [parameter.square().sum() for parameter in model.parameters()]
    return torch.stack(squares).sum().sqrt().item()
