"""How good a study's Pareto front is: its hypervolume, now and as the search went on.

The *hypervolume* is the volume between the front and a reference point that is worse than it: the
larger, the better. `compare`, the report and `best` ask here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from hpogen.objective import Objective
from hpogen.record.history import Record
from hpogen.selection import candidates, front
from hpogen.selection.front import Scores
from hpogen.study import standing
from hpogen.study.read import AnyStudy, Folder

Point = tuple[float, ...]

QUARTERS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Front:
    """The trials that no other dominates; None in the place of what needs more trials."""

    records: tuple[Record, ...]
    reference: Point | None
    volume: float | None


def front_of(study: AnyStudy, reference: Point | None = None) -> Front:
    """Of a study with a Pareto objective; the reference point is its own where none is given."""
    there = tuple(standing.front_of(study))
    point = reference or reference_of(study)
    volume = None if point is None else hypervolume([r.scores for r in there], point)
    return Front(there, point, volume)


def reference_of(study: AnyStudy) -> Point | None:
    """The worst of each score among the first `standard_after` finished trials, in their order.

    It never changes, once these trials have ended; None before.
    """
    found: list[Point] = []
    rung, after = study.spec.ladder[-1], study.spec.objective.standard_after
    for record in study.history.records:
        if record.outcome is None:
            return None
        if record.scores and record.trial.rung == rung:
            found.append(record.scores)
        if len(found) == after:
            return worst(found)
    return None


def worst(points: Sequence[Point]) -> Point:
    """The largest of each score: of several studies' reference points the one for all of them."""
    return tuple(map(max, zip(*points, strict=True)))


def hypervolume(scores: Scores, reference: Point) -> float:
    """Of the points that are not worse than the reference in any score, by Optuna's algorithm.

    `scores` are (n, k), `reference` (k,); 0 without such a point.
    """
    from optuna._hypervolume import compute_hypervolume  # what its own samplers and plots use

    at = np.array(reference)
    points = np.array(scores, dtype=np.float64).reshape(-1, len(at))
    return float(compute_hypervolume(points[(points <= at).all(axis=1)], at))


def volumes(study: Folder, reference: Point) -> list[tuple[float, float]]:
    """After each trial that was told and changed it: epochs charged so far, and the hypervolume."""
    there = {record.trial.id for record in candidates(study.history, study.spec.ladder[-1])}
    charged, points = 0.0, list[Point]()
    found: list[tuple[float, float]] = []
    for number in study.order:
        record = study.history.records[number]
        charged += float(study.history.charge(record))
        if number not in there:
            continue
        points.append(record.scores)
        points = [points[i] for i in front(points)]
        volume = hypervolume(points, reference)
        if not found or volume != found[-1][1]:
            found.append((charged, volume))
    return found


def alike(objectives: Sequence[Objective]) -> bool:
    """Whether all are Pareto objectives of the same scores, so that fronts can be compared."""
    return all(one.pareto and one.terms == objectives[0].terms for one in objectives)


@dataclass(frozen=True)
class Volumes:
    """The hypervolume of an arm as its searches went on: the mean over n search seeds.

    `epochs` are quarters of the epochs charged in the shortest of the searches that are compared,
    `reference` is the same for all arms.
    """

    arm: str
    n: int
    reference: Point
    epochs: tuple[float, ...]
    volume: tuple[float, ...]


def compared(arms: Mapping[str, Sequence[Folder]]) -> tuple[Volumes, ...]:
    """Of the arms of a task, as long as all of their studies have the same scores."""
    studies = [study for own in arms.values() for study in own]
    if not studies or not alike([study.spec.objective for study in studies]):
        return ()
    references = [point for study in studies if (point := reference_of(study)) is not None]
    if len(references) < len(studies):
        return ()
    reference = worst(references)
    end = min(float(study.history.charged) for study in studies)
    at = tuple(end * share for share in QUARTERS)
    found = []
    for arm, own in arms.items():
        walks = [volumes(study, reference) for study in own]
        means = [fmean(_until(walk, epochs) for walk in walks) for epochs in at]
        found.append(Volumes(arm, len(own), reference, at, tuple(means)))
    return tuple(found)


def _until(walk: Sequence[tuple[float, float]], epochs: float) -> float:
    """The hypervolume after so many epochs."""
    return max((volume for charged, volume in walk if charged <= epochs), default=0.0)
