"""Hugging Face's Trainer in a study: `Report` is a callback that reports, measures, resumes, stops.

Users import it in their task of their own; nothing else in hpogen does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from hpogen.errors import UserError
from hpogen.integrations import reporting
from hpogen.integrations.reporting import KEPT, Audit, EpochFiles, Epochs
from hpogen.measures.batches import TARGETS, Forward
from hpogen.trial import RunningTrial


class Report(TrainerCallback):
    """A trial of a study in a Trainer of Hugging Face's transformers.

        @task("bert", metrics=("val_loss", "agn"), sums=("agn",), audit=("error",), resumable=True)
        def train(trial):
            report = Report(trial, measures=["agn"], audit=test_loader)
            arguments = TrainingArguments(learning_rate=trial.config["lr"])
            yield from report.train(Trainer(make_model(), arguments, …))

    `metrics` are names of what the Trainer evaluates after each epoch, `val_…` being its `eval_…`,
    or of what it last logged. `measures` are computed there over `data`, left out: the training
    batches; `agn_online` while training. `audit` are batches of which the last epoch gets its
    `error`, the share of wrong classes; or a function of the model that gives a mapping. Batches
    and `forward` are as `head_statistics` has them.

    It seeds Python, NumPy and torch by the trial's seed: make it before the model. The Trainer is
    given its number of epochs, its seed, and the trial's folder for its checkpoints, one after each
    epoch: so a trial which is killed or stopped goes on as if it had not been. Raises UserError
    without a trial.
    """

    def __init__(
        self,
        trial: RunningTrial | None = None,
        *,
        metrics: Sequence[str] = ("val_loss",),
        measures: Sequence[str] = (),
        audit: Audit | None = None,
        data: Iterable[Any] | None = None,
        forward: Forward | None = None,
    ) -> None:
        who = "transformers.Report"
        self._epochs = Epochs(who, trial, metrics, measures, audit, data, forward)
        self._folder = self._epochs.trial.directory / "trainer"
        self._files = EpochFiles(self._folder, ".json", self._let_go)
        self._trainer: Any = None
        self._evaluated: dict[str, float] = {}
        self._due = False

    def train(self, trainer: Trainer) -> Iterator[reporting.Report]:
        """`trainer.train()`, for `trial.budget` epochs, giving what each epoch reports.

        Closing the iterator stops the Trainer. Raises UserError for a Trainer of several devices,
        for one that stops by itself, and for a metric that is not there.
        """
        trial, arguments = self._epochs.trial, trainer.args
        model: Any = trainer.model
        arguments.num_train_epochs, arguments.max_steps = trial.budget, -1
        arguments.output_dir = str(self._folder)
        arguments.seed = trial.seed % 2**31
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        self._trainer = trainer
        start = self._files.newest(self._epochs.start)
        kept = self._read(start) if start else {"sums": {}}
        self._epochs.sums = kept["sums"]
        path = str(self._folder / kept["checkpoint"]) if start else None
        yield from self._epochs.run(
            model, lambda: trainer.train(resume_from_checkpoint=path), self._watch
        )

        self._files.drop(trial.budget - 1)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        processes = max(args.world_size, args.n_gpu, 1)
        self._epochs.check("report.train(trainer)", processes)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self._due = control.should_log = control.should_save = True
        control.should_evaluate = self._trainer.eval_dataset is not None
        return control

    def on_evaluate(self, args: Any, state: Any, control: Any, **keys: Any) -> None:
        found: Mapping[str, float] = keys["metrics"]
        self._evaluated = {name.replace("eval_", "val_", 1): v for name, v in found.items()}

    def on_save(self, args: Any, state: Any, control: Any, **keys: Any) -> Any:
        if not self._due:  # one of the user's own
            return control
        self._due = False
        epoch = round(state.epoch)
        logs = {name: value for entry in state.log_history[-2:] for name, value in entry.items()}
        logged = {**logs, **self._evaluated}
        report = self._epochs.measured(
            epoch, logged, self._trainer.model, self._trainer.get_train_dataloader
        )
        record = {"checkpoint": f"checkpoint-{state.global_step}", "sums": self._epochs.sums}
        self._files.path(epoch).write_text(json.dumps(record))
        self._files.drop(epoch - KEPT)
        if not self._epochs.take(epoch, report):
            control.should_training_stop = True
        return control

    def _watch(self, model: nn.Module) -> Any:
        """Have each training forward counted; what is given has `remove`."""

        def forwarded(module: nn.Module, _: Any, keys: Mapping[str, Any], output: Any) -> None:
            if module.training:
                tensors = {n: v for n, v in keys.items() if isinstance(v, Tensor) and v.ndim}
                if not any(name in tensors for name in TARGETS):
                    raise UserError(
                        "transformers.Report: agn_online needs the labels among the model's "
                        f"inputs, got {', '.join(sorted(tensors))}: leave out label smoothing and "
                        "losses of your own, or take agn"
                    )
                self._epochs.step(tensors)

        return model.register_forward_hook(forwarded, with_kwargs=True)

    def _let_go(self, epoch: int) -> None:
        """Of the Trainer's own checkpoint, of which the file says where it is."""
        shutil.rmtree(self._folder / self._read(epoch)["checkpoint"], ignore_errors=True)

    def _read(self, epoch: int) -> dict[str, Any]:
        """Which checkpoint is an epoch's, and the sums up to it."""
        record: dict[str, Any] = json.loads(self._files.path(epoch).read_text())
        return record
