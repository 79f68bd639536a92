"""Lightning in a study: `Report` is a callback that reports, measures, resumes and stops.

Users import it in their task of their own; nothing else in hpogen does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from hpogen.integrations import reporting
from hpogen.integrations.reporting import KEPT, Audit, EpochFiles, Epochs
from hpogen.measures.batches import Forward
from hpogen.trial import RunningTrial


class Report(Checkpoint):
    """A trial of a study in a Lightning Trainer.

        @task("net", metrics=("val_loss", "agn"), sums=("agn",), audit=("error",), resumable=True)
        def train(trial):
            report = Report(trial, measures=["agn"], audit=test_loader)
            yield from report.fit(Trainer(…), Net(trial.config["lr"]), train_loader, val_loader)

    `metrics` are names that the module logs; they are taken at each epoch's end. `measures` are
    computed there over `data`, left out: the training batches; `agn_online` while training. `audit`
    are batches of which the last epoch gets its `error`, the share of wrong classes; or a function
    of the module that gives a mapping. Batches and `forward` are as `head_statistics` has them.

    It seeds Python, NumPy and torch by the trial's seed: make it before the model. Each epoch is
    seeded, too, so that a trial which is killed or stopped goes on as if it had not been, from the
    checkpoints that it keeps in the trial's folder. Raises UserError without a trial.
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
        self._epochs = Epochs("lightning.Report", trial, metrics, measures, audit, data, forward)
        self._files = EpochFiles(self._epochs.trial.directory, ".ckpt")
        self._plateaus: dict[int, float] = {}
        self._resumed = False

    def fit(
        self, trainer: Trainer, model: LightningModule, *args: Any, **keys: Any
    ) -> Iterator[reporting.Report]:
        """`trainer.fit(model, …)`, for `trial.budget` epochs, giving what each epoch reports.

        Closing the iterator stops the trainer. Raises UserError for a trainer of several devices,
        for one that stops by itself, and for a metric that is not logged.
        """
        trial = self._epochs.trial
        trainer.fit_loop.max_epochs = trial.budget
        if self not in trainer.callbacks:  # type: ignore[attr-defined]
            trainer.callbacks.append(self)  # type: ignore[attr-defined]
        start = self._files.newest(self._epochs.start)
        keys["ckpt_path"] = str(self._files.path(start)) if start else None
        yield from self._epochs.run(model, lambda: trainer.fit(model, *args, **keys))
        self._files.drop(trial.budget - 1)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epochs.check("report.fit(trainer, model, …)", trainer.world_size)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._resumed = trainer.current_epoch > 0
        for i, value in self._plateaus.items():  # their step is taken after the checkpoint
            scheduler: Any = trainer.lr_scheduler_configs[i].scheduler
            scheduler.step(value)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seed(trainer)
        if self._resumed:  # the trainer had begun the pass before, by other random numbers
            iter(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
        self._resumed = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:  # whoever has drawn since
            self._seed(trainer, 1)
        self._epochs.begin_step()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._epochs.step(batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        logged = trainer.callback_metrics
        self._plateaus = {
            i: float(logged[config.monitor])
            for i, config in enumerate(trainer.lr_scheduler_configs)
            if config.reduce_on_plateau and config.interval == "epoch" and config.monitor in logged
            if epoch % config.frequency == 0
        }
        report = self._epochs.measured(epoch, logged, pl_module, lambda: trainer.train_dataloader)
        trainer.save_checkpoint(self._files.path(epoch), weights_only=False)
        self._files.drop(epoch - KEPT)
        if not self._epochs.take(epoch, report):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._epochs.sums), "plateaus": dict(self._plateaus)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._epochs.sums, self._plateaus = state_dict["sums"], state_dict["plateaus"]

    def _seed(self, trainer: Trainer, part: int = 0) -> None:
        reporting.seed(self._epochs.trial.seed, trainer.current_epoch, part)
