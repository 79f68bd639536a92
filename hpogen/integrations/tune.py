"""hpogen's searchers in Ray Tune: `TuneSearch` is a search algorithm for `tune.TuneConfig`.

Users of Ray Tune import it; nothing else in hpogen does.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ray.tune.search import Searcher

from hpogen import spec
from hpogen.errors import UserError, quoted, unknown
from hpogen.integrations.search import alike, define
from hpogen.space import Space
from hpogen.spec.form import USUAL
from hpogen.trial import Config

log = logging.getLogger("hpogen.integrations.tune")

FORMAT = 1


class TuneSearch(Searcher):
    """A searcher of hpogen as a search algorithm of Ray Tune.

        search = TuneSearch("search_spaces/sgd.yaml", "cmaes", metric="val_loss", population=8)
        tune.Tuner(train, tune_config=tune.TuneConfig(search_alg=search, num_samples=64)).fit()

    `space` is the mapping of a study's `search_space`, the path of a YAML file with one, or a
    `Space`; `searcher` and its `options` are those of the YAML, and so is `enqueue` (left out: the
    space's defaults come first). The same space, searcher and seed propose what a study's would.
    `metric` is a key of the trainable's last report, lower is better unless `mode` is "max";
    what is left out is taken from `tune.TuneConfig`, which passes it on only beside a
    `param_space`. A trial that failed, or whose metric is not finite, counts as the worst.

    Raises UserError for what is wrong with them, and for a searcher of several budgets (bohb,
    hyperband, asha): Tune has its own schedulers for those. A searcher that learns by generations
    gives Tune no trial while the last ones of a generation run, so slots may wait.
    """

    CKPT_FILE_TMPL = "searcher-state-{}.json"

    def __init__(
        self,
        space: Space | Mapping[str, Any] | Path | str,
        searcher: str = USUAL,
        *,
        metric: str | None = None,
        mode: Literal["min", "max"] | None = None,
        seed: int = 0,
        enqueue: Sequence[str | Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        if mode not in (None, "min", "max"):
            raise UserError(f"TuneSearch: mode: {unknown('', mode, ('min', 'max'))}")
        super().__init__(metric, mode)
        self._search = define("TuneSearch", space, searcher, seed, enqueue, options)
        self._begin()

    def _begin(self) -> None:
        self._searcher = self._search.make()
        self._calls: list[dict[str, Any]] = []  # every ask and tell, in order; what is saved
        self._trials: dict[str, int] = {}  # Tune's name of a trial → its number
        self._running: set[str] = set()

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **_: Any
    ) -> bool:
        """Take metric and mode from Tune where they are not set; False: the space is ours."""
        self._take(metric, mode, "tune.TuneConfig")
        if both := sorted(self._search.space.parameters.keys() & (config or {}).keys()):
            raise UserError(
                f"TuneSearch: {both[0]!r} is searched, and stands in param_space, too: remove it "
                "from one of them"
            )
        return False

    def suggest(self, trial_id: str) -> Any:
        """The next configuration; None: ask again when a trial has ended; FINISHED: no more."""
        if self._metric is None:
            raise UserError(
                "TuneSearch: metric is not set: give it to TuneSearch (tune.TuneConfig passes its "
                "own on only beside a param_space)"
            )
        proposal = self._searcher.ask()
        if proposal is None:
            return None if self._running else Searcher.FINISHED
        self._asked(trial_id, proposal.config)
        return dict(proposal.config)

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the searcher, once per trial; a trial that it does not know is passed over.

        Raises UserError when the result of a trial that did not fail lacks the metric.
        """
        if trial_id not in self._running:
            log.warning("trial=%s action=not_told known=%s", trial_id, trial_id in self._trials)
            return
        self._told(trial_id, math.inf if error or not result else self._score(result))

    def save(self, checkpoint_path: str) -> None:
        """Write every ask and tell as JSON. Tune calls it; the file is whole or not there."""
        temporary = Path(f"{checkpoint_path}.tmp")
        temporary.write_text(json.dumps(self._record(), allow_nan=False), encoding="utf-8")
        os.replace(temporary, checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """Bring the searcher to where it was when `save` wrote the file, by replay.

        Raises UserError for another search's file, a damaged one, and when a searcher (of other
        package versions, say) no longer proposes what it did.
        """
        try:
            record = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))
            known = record["format"] == FORMAT
            old, calls = record["search"], record["calls"]
            metric, mode = record["metric"], record["mode"]
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            text = f"is not a state that TuneSearch saved: {wrong!r}"
            raise UserError(f"{checkpoint_path}: {text}") from wrong
        if not known:
            raise UserError(f"{checkpoint_path}: has another format than this version's, {FORMAT}")
        for key, was, now in spec.changes(old, self._search.record()):
            raise UserError(
                f"{checkpoint_path}: {key}: saved with {quoted(was)}, but it is now {quoted(now)}"
            )
        self._take(metric, mode, checkpoint_path)
        self._replay(calls, checkpoint_path)

    def __reduce__(self) -> Any:
        return _restored, (type(self), self._record())

    def _record(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "metric": self._metric,
            "mode": self._mode,
            "search": self._search.record(),
            "calls": self._calls,
        }

    def _replay(self, calls: Sequence[Mapping[str, Any]], where: str) -> None:
        self._begin()
        for call in calls:
            if "asked" not in call:
                self._told(call["told"], math.inf if call["score"] is None else call["score"])
                continue
            proposal = self._searcher.ask()
            if proposal is None or not alike(proposal.config, call["config"]):
                raise UserError(
                    f"{where}: on replay the searcher proposes {proposal and proposal.config} for "
                    f"trial {call['asked']}, which was {call['config']}: other versions of its "
                    "packages?"
                )
            self._asked(call["asked"], call["config"])

    def _asked(self, trial_id: str, config: Config) -> None:
        if trial_id in self._trials:
            raise ValueError(f"trial {trial_id!r} has a configuration already")
        self._trials[trial_id] = len(self._trials)
        self._running.add(trial_id)
        self._calls.append({"asked": trial_id, "config": dict(config)})

    def _told(self, trial_id: str, score: float) -> None:
        self._running.remove(trial_id)
        self._searcher.tell(self._trials[trial_id], score)
        told = score if math.isfinite(score) else None
        self._calls.append({"told": trial_id, "score": told})

    def _score(self, result: Mapping[str, Any]) -> float:
        metric = self._metric or ""
        if metric not in result:
            raise UserError(unknown("TuneSearch: metric", metric, result))
        value = float(result[metric])
        score = -value if self._mode == "max" else value
        return score if math.isfinite(score) else math.inf

    def _take(self, metric: str | None, mode: str | None, where: str) -> None:
        """Set what is not set. Raises UserError where both are, and differ."""
        for name, given in (("metric", metric), ("mode", mode)):
            ours = getattr(self, name)
            if ours is not None and given not in (None, ours):
                raise UserError(f"TuneSearch: {name}: got {ours!r}, but {where} has {given!r}")
        self._metric = self._metric or metric
        self._mode = self._mode or mode


def _restored(cls: type[TuneSearch], record: Mapping[str, Any]) -> TuneSearch:
    """What is unpickled: made anew, and brought by replay to where it was."""
    search = dict(record["search"])
    made = cls(
        search.pop("space"),
        metric=record["metric"],
        mode=record["mode"],
        seed=search["seed"],
        enqueue=search["enqueue"],
        **{"searcher" if key == "name" else key: v for key, v in search["searcher"].items()},
    )
    made._replay(record["calls"], "pickle")
    return made
