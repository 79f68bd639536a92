"""What a sample's target is, and the loss and the gradient d that it gives: the one home of both.

A target is a label, probabilities of the classes, or 0 or 1 for a model of one logit. Every measure
that reads targets comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures.batches import each_input, size_of

LossFunction = Callable[[Tensor, Tensor], Tensor]  # of logits (N, …) and targets; gives (N,)
ROWS = 1 << 16  # in float64 at a time
IGNORED = -100  # the label of samples that torch's cross_entropy leaves out


def rows(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, C, …) as (M, C), and targets as labels (M,) int64 or probabilities (M, C).

    M is N times the positions of a sequence or a picture, if any. Labels may be of any integer type
    or bool, (N, …) or (N, 1, …). For one logit (C = 1) they are 0 or 1, or the probability of 1, as
    for binary cross-entropy. No value is read. Raises Refusal for targets of another shape.
    """
    if not isinstance(logits, Tensor):
        raise Refusal(f"the model gives a {type(logits).__name__}, expected logits (N, C)")
    if logits.ndim == 2 and targets.dtype == torch.int64 and targets.shape == logits.shape[:1]:
        return logits, targets
    if logits.ndim < 2:
        raise Refusal(f"logits are {_text(logits)}, expected (N, C): of one logit (N, 1)")
    given, classes = targets, logits.shape[1]
    places = (len(logits), *logits.shape[2:])
    soft = targets.is_floating_point()
    if targets.shape == (len(logits), 1, *places[1:]) and (classes == 1 or not soft):
        targets = targets[:, 0]
    if soft and classes == 1 and targets.shape == places:
        targets = targets[:, None]
    if targets.shape != (logits.shape if soft else places) or targets.is_complex():
        raise Refusal(_misfit(logits, given))
    logits = logits.movedim(1, -1).reshape(-1, classes)
    if soft:
        return logits, targets.movedim(1, -1).reshape(-1, classes)
    return logits, targets.reshape(-1).long()


def counted(logits: Tensor, targets: Tensor, loss: LossFunction | None = None) -> Tensor | None:
    """Which rows of `rows` are not labelled −100, (M,) bool; None where all count.

    A loss of one's own makes what it will of other targets than labels (N,). Raises Refusal for a
    label that is no class of the logits, and where one logit's target is not in [0, 1].
    """
    if targets.is_meta or not targets.numel():
        return None
    if loss is not None:
        own = targets.ndim > 1 or targets.is_floating_point()
        return None if own else targets != IGNORED
    classes = logits.shape[1]
    least, most = (value.item() for value in targets.aminmax())
    if targets.is_floating_point():
        if classes == 1 and not (least >= 0 and most <= 1):
            raise Refusal(f"the model gives one logit: a target in [{least:g}, {most:g}] is no 0/1")
        return None
    if least >= 0 and most < max(classes, 2):
        return None
    kept = targets != IGNORED
    wrong = targets[kept & ((targets < 0) | (targets >= max(classes, 2)))]
    if len(wrong):
        raise Refusal(
            f"label {int(wrong[0])} is not in [0, {max(classes, 2)}): the model gives "
            f"{classes} logit{'s' * (classes > 1)} (label {IGNORED} leaves a sample out)"
        )
    return kept


def labelled(batches: Iterable[tuple[Any, Tensor]]) -> Iterator[tuple[Any, Tensor]]:
    """The batches without the samples that are labelled −100 (at all places), and no empty ones."""
    for x, y in batches:
        if size_of(x) == len(y) and len(y) and not (y.is_floating_point() or y.is_meta):
            kept = (y != IGNORED).reshape(len(y), -1).any(1)
            if not kept.all():
                x, y = _some(x, kept), y[kept]
        if size_of(x):
            yield x, y


def _some(x: Any, kept: Tensor) -> Any:
    return each_input(x, lambda part: part[kept.to(part.device)])


def classes_of(logits: Tensor, targets: Tensor) -> Tensor:
    """The class (N,) int64 of each sample, none labelled −100: the likeliest of probabilities.

    Raises Refusal where there are several likeliest, for one logit, and for several places (N, C,
    …): such samples have no class.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise Refusal(f"the model gives {tuple(logits.shape)}, expected two logits or more (N, C)")
    logits, targets = rows(logits, targets)
    counted(logits, targets)
    if not targets.is_floating_point():
        return targets
    likeliest = targets == targets.amax(1, keepdim=True)
    if (likeliest.sum(1) > 1).any():
        raise Refusal("some targets have several likeliest classes, expected one class per sample")
    return targets.argmax(1)


def hits(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether each row's largest logit is its label's (M,); of one logit, its sign tells.

    Of probabilities, whether it is a likeliest class's.
    """
    logits, targets = paired(logits, targets)
    predicted = logits.argmax(1)
    if targets.is_floating_point():
        return targets.gather(1, predicted[:, None])[:, 0] == targets.amax(1)
    return predicted == targets


def by_rows(function: Callable[[Tensor, Tensor], Tensor], *values: Tensor) -> Tensor:
    """What a function gives, (N, …), which takes each row by itself: of `ROWS` at a time."""
    if len(values[0]) <= ROWS:
        return function(*values)
    found: Tensor | None = None
    for start in range(0, len(values[0]), ROWS):
        part = function(*(value[start : start + ROWS] for value in values))
        if found is None:
            found = part.new_empty(len(values[0]), *part.shape[1:])
        found[start : start + ROWS] = part
    assert found is not None
    return found


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
    """Of each sample or place (M,), or their sum, float64; 0 for the label −100.

    `logits` (N, C, …) and `targets` as `rows` takes them; of one logit the binary cross-entropy.
    """
    logits, targets = paired(*rows(logits.double(), targets))
    return functional.cross_entropy(logits, targets, reduction=reduction)


def each(loss: LossFunction, logits: Tensor, targets: Tensor) -> Tensor:
    """A loss of one's own of each sample, (N,) float64. Raises Refusal, ValueError."""
    targets = targets.double() if targets.is_floating_point() else targets
    try:
        losses = loss(logits.double(), targets)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise Refusal(
            f"the loss fails on logits in float64 ({reason}): its own tensors, class weights say, "
            "must be float64, too"
        ) from error
    if losses.shape != (len(logits),):
        raise ValueError(
            f"the loss gave a tensor of shape {tuple(losses.shape)}, expected one loss per sample, "
            f"({len(logits)},): use reduction='none'"
        )
    return losses


def output_gradient(logits: Tensor, targets: Tensor, loss: LossFunction | None = None) -> Tensor:
    """d (N, C) float64, the gradient of each sample's loss by its logits.

    Of the cross-entropy, unless there is a loss of one's own, d = p·Σq − q. With labels, d_y is
    −Σ_{j≠y} p_j: p_y − 1 would cancel for samples that are well fitted. Of one logit, d = σ(z) − y.
    """
    if loss is not None:
        with torch.enable_grad():
            z = logits.detach().double().requires_grad_()
            return torch.autograd.grad(each(loss, z, targets).sum(), z)[0]
    classes = logits.shape[1]
    logits, targets = paired(logits.double(), targets)
    difference = logits.softmax(1)
    if targets.is_floating_point():
        difference = difference * targets.sum(1, keepdim=True) - targets
    else:
        chosen = targets[:, None]
        difference.scatter_(1, chosen, 0.0)
        difference.scatter_(1, chosen, -difference.sum(1, keepdim=True))
    return difference if classes > 1 else difference[:, 1:]


def smoothed(targets: Tensor, classes: int, smoothing: float) -> Tensor:
    """The targets of cross-entropy with label smoothing, (N, C) float64; as they are at 0."""
    if smoothing == 0:
        return targets
    if not targets.is_floating_point():
        binary = classes == 1
        targets = targets[:, None] if binary else functional.one_hot(targets, classes)
    return targets.double() * (1 - smoothing) + smoothing / max(classes, 2)


def paired(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """One logit z as those of two classes (0, z), whose cross-entropy is the binary one.

    More logits (M, C) are left as they are; probabilities get the type of the logits.
    """
    if targets.is_floating_point():
        targets = targets.to(logits.dtype)
    if logits.shape[1] != 1:
        return logits, targets
    if targets.is_floating_point():
        targets = torch.cat((1 - targets, targets), 1)
    return torch.cat((torch.zeros_like(logits), logits), 1), targets


def _misfit(logits: Tensor, targets: Tensor) -> str:
    text = (
        f"targets are {_text(targets)} for logits {tuple(logits.shape)}, expected labels "
        f"{(len(logits), *logits.shape[2:])} or probabilities {tuple(logits.shape)}"
    )
    if targets.shape == logits.shape and not targets.is_complex():
        return f"{text}: for several 0/1 labels of a sample, give a loss of your own"
    return text


def _text(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} {tuple(values.shape)}"
