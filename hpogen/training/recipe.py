"""What stays the same through a trial: the recipe, from which its first state is made.

The loop begins here; its parts (`step.py`, `evaluate.py`) take both.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from hpogen import plugins
from hpogen.training.data.prepared import Prepared, data_for, prepare
from hpogen.training.data.reading import Batches, Split
from hpogen.training.forms.hyperparameters import Hyperparameters, hyperparameters
from hpogen.training.forms.task import Precision, Settings
from hpogen.training.losses import Loss
from hpogen.training.memory import evaluation_batch
from hpogen.training.models.build import build
from hpogen.training.plan import Plan, make_plan
from hpogen.training.precision import autocast
from hpogen.training.pretrained import fill
from hpogen.training.state import State
from hpogen.training.trained_loss import TrainedLoss, trained_loss
from hpogen.trial import RunningTrial, derive_seed

DESCENDING = frozenset({"sgd", "sam"})  # the optimizers whose momentum is a velocity


@dataclass(frozen=True)
class Recipe:
    """The trial, the task, and what follows from them."""

    settings: Settings
    trial: RunningTrial
    values: Hyperparameters
    plan: Plan
    data: Prepared
    device: torch.device
    memory_format: torch.memory_format
    evaluation_batch: int  # samples
    loss: Loss
    trained_loss: TrainedLoss

    @cached_property
    def batch_size(self) -> int:
        return min(self.values.batch_size, len(self.data.subset))

    @cached_property
    def steps(self) -> int:
        """Steps per epoch. A last batch of one sample is left out: BatchNorm cannot train on it."""
        whole, rest = divmod(len(self.data.subset), self.batch_size)
        return whole + (rest > 1)

    @property
    def scheduled_epochs(self) -> int:
        """The epochs that schedules are laid over."""
        full = self.settings.schedule.anchor == "full"
        return self.settings.epochs if full else self.trial.budget

    @property
    def keeps_probabilities(self) -> bool:
        """Whether those of validation and audit are kept: of the full budget."""
        full = self.trial.budget == self.settings.epochs
        return full and self.settings.keep == "probabilities"

    def over(self, losses: Sequence[float]) -> bool:
        """Whether that is the last epoch of the trial, by the validation losses up to it.

        Or by their number alone, where the task has no `patience`.
        """
        if len(losses) >= self.trial.budget:
            return True
        patience = self.settings.patience if losses else None
        return patience is not None and len(losses) - 1 - losses.index(min(losses)) >= patience

    def untrained(self) -> nn.Module:
        """The network as it was before the first step: built once more from the trial's seed."""
        with torch.random.fork_rng(devices=[]):
            return initial_model(self.settings, self.trial, self.data, self.device)

    def batches(self, split: Split) -> Batches:
        """What an evaluation runs over."""
        size = self.evaluation_batch
        data = self.data
        return Batches(split, data.normalization, self.memory_format, size, data.unit)

    def autocast(self) -> AbstractContextManager[object]:
        """Where forward passes run."""
        return autocast(self.settings, self.device)

    @property
    def measured_loss(self) -> Loss | None:
        """The loss for the measures of the last layer; None: the cross-entropy, in closed forms."""
        return self.loss if self.trained_loss.own else None

    @property
    def network_loss(self) -> Loss | None:
        """The same for those of the network, whose own cross-entropy is for one class each."""
        return self.loss if self.data.target.name == "positions" else self.measured_loss

    @property
    def momentum(self) -> float:
        """By which a step goes further than its rate: Adam's is an average, and does not."""
        return self.values.momentum if self.values.optimizer in DESCENDING else 0.0


def begin(settings: Settings, trial: RunningTrial, wanted: frozenset[str]) -> tuple[Recipe, State]:
    """The recipe, and the state before the first epoch, from the trial's seed."""
    device = torch.device(trial.device)
    values = hyperparameters(
        {name: v for name, v in trial.config.items() if name in Hyperparameters.model_fields},
        optimizer=settings.optimizer,
        label_smoothing=settings.label_smoothing,
        average=settings.average,
        **settings.dataset.hyperparameters(),
    )
    prepared = prepare(settings.dataset, device, trial.data, trial.part)
    data = data_for(prepared, settings.dataset, values, trial.seed)
    model = initial_model(settings, trial, data, device)
    plan = make_plan(settings, wanted)
    layout = memory_format_of(model, settings.precision, device)
    batch = evaluation_batch(model, data.in_shape, device, data.dtype)
    loss = loss_of(settings, data)
    trained = trained_loss(settings, data, loss, values.label_smoothing)
    recipe = Recipe(settings, trial, values, plan, data, device, layout, batch, loss, trained)
    forward = torch.compile(model) if settings.compile and not plan.online else model
    mean = None if values.average == "none" else copy.deepcopy(model)
    state = State(model, make_optimizer(model, values, device), device, forward, average=mean)
    iterated = [name for planned in plan.iterated for name in planned.measure.metrics]
    for name in ("loss", "agn", "agn_lr", *iterated):
        state.step_sums[name] = torch.zeros((), dtype=torch.float64, device=device)
    state.sums.update(dict.fromkeys(plan.running, 0.0))
    return recipe, state


def loss_of(settings: Settings, data: Prepared) -> Loss:
    """The task's loss: the one that it names, or the targets' own."""
    name = settings.loss_for(data.target)
    return Loss(name, plugins.losses.get(name))


def initial_model(
    settings: Settings, trial: RunningTrial, data: Prepared, device: torch.device
) -> nn.Module:
    """The network before the first step, from the trial's seed: torch's seed is set to it."""
    torch.manual_seed(derive_seed(trial.seed, "model"))
    options = settings.model.options_with(trial.config)
    model = build(settings.model.name, options, data.model_inputs)
    if settings.weights is not None:
        fill(model, settings.weights)
    memory_format = memory_format_of(model, settings.precision, device)
    return model.to(device=device, memory_format=memory_format)  # type: ignore[call-overload,no-any-return]


def memory_format_of(
    model: nn.Module, precision: Precision, device: torch.device
) -> torch.memory_format:
    """`channels_last` for convolutions on a CPU, and on a GPU for its tensor cores."""
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    last = convolutional and (device.type == "cpu" or precision != "fp32")
    return torch.channels_last if last else torch.contiguous_format


def make_optimizer(
    model: nn.Module, values: Hyperparameters, device: torch.device
) -> torch.optim.Optimizer:
    """The optimizer over all trainable parameters; Nesterov without momentum is plain SGD.

    Of `sam` it is that of the descent; `descent.py` makes its gradient.
    One kernel steps all of them where torch has it (`fused`).
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr, decay, momentum = values.lr, values.weight_decay, values.momentum
    fused = device.type in ("cpu", "cuda")
    if values.optimizer in DESCENDING:
        nesterov = values.nesterov and momentum > 0
        return torch.optim.SGD(
            parameters, lr, momentum, weight_decay=decay, nesterov=nesterov, fused=fused
        )
    kind = torch.optim.Adam if values.optimizer == "adam" else torch.optim.AdamW
    keys = {"fused": fused, "capturable": device.type == "cuda"}
    return kind(parameters, lr, (momentum, 0.999), weight_decay=decay, **keys)
