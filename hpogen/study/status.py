"""What `status`, `show` and `best` tell, as data that goes through JSON; the memory of trials.

Read from a study's folder, whether it runs or not.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hpogen.errors import UserError
from hpogen.record import folder
from hpogen.record.history import Record
from hpogen.spec import StudySpec
from hpogen.study.finalists import Final, begun, final
from hpogen.study.read import AnyStudy, Folder
from hpogen.study.standing import (
    alpha,
    chosen,
    commonest,
    front_scores,
    is_complete,
    nearest,
    rule,
    standing,
    unsatisfied,
)
from hpogen.trial import Progress, Trial

LOOKED_AT = 200  # trials, the latest: a long study is not read whole
MARGIN = 1.2  # later epochs and other batch sizes
CONTEXT = 0.6 * 2**30  # bytes of a GPU that each process takes beside what torch reserves


def status(study: Folder) -> dict[str, Any]:
    """Where the study stands; `state` is running, stopped or finished."""
    spec, history, now = study.spec, study.history, standing(study)
    return {
        "name": spec.name,
        "searcher": spec.searcher.name,
        "objective": rule(spec),
        "state": state(study),
        "process": study.process,
        "stop": dict(history.stop),
        "trials": len(history.records),
        "told": now.told,
        "failed": dict(now.failures),
        **({"pruned": now.pruned} if spec.prune else {}),
        **({"infeasible": now.infeasible} if spec.constraints else {}),
        **({"alpha": now.alpha} if spec.objective.finds_alpha else {}),
        **({} if now.front is None else {"front": now.front}),
        "duplicates": now.duplicates,
        "reused": history.reused,
        "epochs_charged": history.charged,
        "epochs_trained": history.trained,
        "memory": memory(study),
        "running": [
            {
                "trial": trial.id,
                "epoch": progress.epoch if progress else 0,
                **_rung(trial),
                "metrics": dict(progress.metrics) if progress else {},
                "device": progress.device if progress else None,
            }
            for trial, progress in under_way(study)
        ],
        "best": _answer(study, now.best) if now.best else None,
        "by_val_loss": _answer(study, now.by_validation) if now.by_validation else None,
        **({"race": raced(now.race)} if now.race else {}),
    }


def state(study: Folder) -> str:
    return "running" if study.process is not None else ended(study)


def ended(study: AnyStudy) -> str:
    """`finished`, or `stopped` before."""
    return "finished" if is_complete(study) else "stopped"


def under_way(study: AnyStudy) -> list[tuple[Trial, Progress | None]]:
    """The trials that are running, or were when the study stopped, each with its last epoch."""
    home, history = study.directory, study.history
    trials = [history.records[number].trial for number in sorted(history.running)]
    curves = [
        [folder.read_curve(home, trial.id, history.id, part) for part in history.parts.each]
        for trial in trials
    ]
    return [(trial, _last(trial.id, own)) for trial, own in zip(trials, curves, strict=True)]


def _last(trial: int, curves: Sequence[Sequence[Mapping[str, Any]]]) -> Progress | None:
    """The last epoch of a trial; of several trainings the mean of how far they have come."""
    found = [last for rows in curves if (last := last_epoch(trial, rows)) is not None]
    if not found:
        return None
    epoch = sum(last.epoch for last in found) // len(curves)
    return replace(found[-1], epoch=epoch)


def last_epoch(trial: int, rows: Sequence[Mapping[str, Any]]) -> Progress | None:
    """Of a trial with these rows of its curve."""
    if not rows:
        return None
    row = rows[-1]
    return Progress(trial, row["epoch"], row["metrics"], row["seconds"], row["device"])


def record_of(study: Folder, number: int) -> Record:
    """A trial's record. Raises UserError when there is none of that number."""
    records = study.history.records
    if not 0 <= number < len(records):
        last = len(records) - 1
        there = f"its trials are 0 to {last}" if last >= 0 else "it has no trials yet"
        raise UserError(f"{study.directory}: there is no trial {number}: {there}")
    return records[number]


def trial(study: Folder, number: int) -> dict[str, Any]:
    """Everything that is known of a trial. Raises UserError when there is none of that number."""
    record = record_of(study, number)
    outcome = record.outcome
    first = shown_first(study)
    return {
        "trial": number,
        "state": record.state,
        "config": dict(record.trial.config),
        **_rung(record.trial),
        "seed": record.trial.seed,
        "duplicate_of": record.twin,
        "repeat": record.trial.replicate if record.repeat else None,
        **({"finalist": True} if record.repeat and study.spec.finalists else {}),
        "trained_as": record.reused or None,
        "lost": record.lost,
        "score": finite(record.score),
        **({"scores": [*record.scores]} if record.scores else {}),
        **({} if record.feasible else {"infeasible": unsatisfied(study.history, record)}),
        "metrics": _ordered(outcome.metrics, first) if outcome else {},
        **_parts(study, record, first),
        "audit": dict(outcome.audit) if outcome else {},
        "epochs_trained": outcome.epochs if outcome else None,
        "seconds": dict(outcome.seconds) if outcome else {},
        "failure": dict(vars(record.failure)) if record.failure else None,
        "curve": [{**r, "metrics": _ordered(r["metrics"], first)} for r in study.curve(number)],
        "log": _log(study, number),
    }


def _parts(study: Folder, record: Record, first: Sequence[str]) -> dict[str, Any]:
    """`folds` or `repeats`: how each training of the trial that has ended did; else nothing.

    `sd` is the standard deviation (n − 1) of each metric that all of them have.
    """
    if study.history.parts.number == 1:
        return {}
    ended = dict(sorted(record.parts.items()))
    told = [
        {
            "number": number,
            "metrics": _ordered(outcome.metrics, first),
            "audit": dict(outcome.audit),
            "failure": dict(vars(outcome.failure)) if outcome.failure else None,
        }
        for number, outcome in ended.items()
    ]
    names = record.outcome.metrics if record.outcome and len(ended) > 1 else ()
    sd = {name: statistics.stdev(x.metrics[name] for x in ended.values()) for name in names}
    return {f"{study.history.parts.word}s": told, "sd": _ordered(sd, first)}


def shown_first(study: Folder) -> tuple[str, ...]:
    """The metrics that a trial's begin with: those of its objective, then `val_accuracy`."""
    return tuple(dict.fromkeys([*study.spec.objective.shown_first, "val_accuracy"]))


def _ordered(metrics: Mapping[str, float], first: Sequence[str]) -> dict[str, float]:
    """These names first, the others by name."""
    names = [*(name for name in first if name in metrics), *sorted({*metrics} - {*first})]
    return {name: metrics[name] for name in names}


def _log(study: Folder, number: int) -> str | None:
    """What the trial printed, and its traceback; None when it printed nothing."""
    texts = []
    for part in study.history.parts.each:
        with contextlib.suppress(FileNotFoundError):
            path = folder.log_path(study.directory, number, part)
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return "".join(texts) if texts else None


def best(study: Folder, spec: StudySpec | None = None) -> dict[str, Any]:
    """The answer, by the objective and selection of `spec`; None: the study's own.

    Raises UserError while no trial has succeeded.
    """
    record = chosen(study, spec)
    if record is None:
        raise UserError(f"{study.directory}: there is no answer yet: {_unanswered(study)}")
    race = begun(study) if (spec or study.spec).finalists else None
    found = alpha(study, spec)
    return {
        **_answer(study, record),
        **({} if found is None else {"alpha": found}),
        **({"front": front_scores(study, spec)} if (spec or study.spec).objective.pareto else {}),
        **({"race": raced(race)} if race else {}),
    }


def raced(race: Final) -> dict[str, Any]:
    """A race: why it ended (empty: it goes on), whose network is kept, and every finalist.

    `trial` is that of the search, `runs` are its trials in the race, `val_loss` is their mean.
    """
    standing = race.standing
    order = race.order()
    network = order[0].network if race.leader and order else None
    return {
        "why": standing.why if standing else "",
        "network": network.trial.id if network else None,
        "finalists": [
            {
                "trial": finalist.record.trial.id,
                "runs": [run.trial.id for run in finalist.runs],
                "val_loss": finalist.mean,
                "fault": finalist.fault,
                "left": standing is None or i in standing.left,
            }
            for i, finalist in enumerate(race.finalists)
        ],
    }


def network_of(study: Folder, spec: StudySpec | None = None) -> int:
    """The trial whose network is the answer's: of a race the leader's best run.

    Raises UserError as `best`.
    """
    found = best(study, spec)
    number = found.get("race", {}).get("network")
    return int(found["trial"] if number is None else number)


def _unanswered(study: Folder) -> str:
    race = final(study)
    if race is not None and race.standing is not None:
        return f"each of its {len(race.finalists)} finalists failed, or did worse on more data"
    if text := nearest(study.history, study.spec.ladder[-1]):
        return text
    reason = commonest(study.history)
    if reason is None or any(record.failure is None for record in study.history.records):
        return "no trial has finished with a score"
    return f"{reason}; see: hpogen show {study.directory} {reason.trial}"


def _answer(study: Folder, record: Record) -> dict[str, Any]:
    metrics = record.outcome.metrics if record.outcome else {}
    return {
        "trial": record.trial.id,
        "config": dict(record.trial.config),
        **_rung(record.trial),
        "score": finite(record.score),
        "metrics": _ordered(metrics, study.spec.objective.shown_first),
    }


def _rung(trial: Trial) -> dict[str, int | float]:
    """The budget in epochs; where it is not the study's subset, also the fraction of the data."""
    data = {} if trial.data is None else {"data": trial.data}
    return {"budget": trial.budget, **data}


def finite(x: float) -> float | None:
    """None for what does not go through JSON."""
    return x if math.isfinite(x) else None


def memory(study: AnyStudy) -> dict[str, Any] | None:
    """The largest peak of the latest trials: `peak`, `total` (bytes), `device`, `share`.

    `share` is the part of the device that a trial should be given; None while nothing is known.
    """
    last = len(study.history.records)
    rows = [
        row
        for trial in range(max(last - LOOKED_AT, 0), last)
        for row in folder.read_curve(study.directory, trial, study.history.id)
        if row.get("memory")
    ]
    if not rows:
        return None
    row = max(rows, key=lambda row: int(row["memory"]["peak"]))
    device = str(row["device"]).partition(":")[0]
    return {**row["memory"], "device": device, "share": _share(row["memory"], device)}


def _share(memory: Mapping[str, int], device: str) -> float:
    need = MARGIN * memory["peak"] + (CONTEXT if device == "cuda" else 0)
    return min(1.0, math.ceil(100 * need / memory["total"]) / 100)


def advice(found: Mapping[str, Any]) -> str:
    """One line of `status`."""
    used = f"a trial took up to {_gib(found['peak'])} of {_gib(found['total'])} GiB"
    if found["device"] == "cuda":
        return f"{used} of its GPU: --gpus-per-trial {found['share']:g} has room"
    return f"{used} of memory: room for {count_of(found)} workers"


def count_of(found: Mapping[str, Any]) -> int:
    """Workers that the device has room for."""
    return max(1, int(1 / found["share"]))


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
