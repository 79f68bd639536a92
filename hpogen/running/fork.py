"""Begins a study with the configurations of another, whose outcomes it takes over: `hpogen fork`.

For another objective, searcher or space, or where a study can no longer be replayed: what was
trained is not trained again.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.record import history, ledger
from hpogen.record.history import History, Key, Record, key_of
from hpogen.record.ledger import LEDGER
from hpogen.record.provenance import digests, file_digests
from hpogen.space.space import Space
from hpogen.spec import StudySpec, differences, load_study, recorded
from hpogen.study import replay
from hpogen.study.read import RUNS, read, studies_in
from hpogen.study.study import Study
from hpogen.tasks import keys
from hpogen.tasks.keys import Meaning
from hpogen.trial import Config, canonical


@dataclass(frozen=True)
class Fork:
    """What became of the old configurations.

    `enqueued` are in the new study, before what its searcher draws; of the trials asked so far,
    `reused` have the old outcome, `to_train` do not. `task` is the first difference of the tasks,
    empty where they are the same.
    """

    directory: Path
    enqueued: int
    reused: int
    to_train: int
    outside: int  # not in the new search space
    other_budgets: int  # trained for budgets that the new study does not have
    no_room: int  # `stop` was reached before
    task: str
    taken: Path | None = None  # the folder of that name, where another study is


def fork(
    directory: Path,
    study: Path | str,
    target: Path | None = None,
    overrides: Sequence[str] = (),
    observed: bool = False,
) -> Fork:
    """Begin the study of a YAML file in `target`; nothing is trained.

    By default that is the first of `runs/NAME`, `runs/NAME-2`, … where there is no other study.
    Every outcome with the metrics that the new study wants is reused where the task is the same;
    otherwise only the configurations are taken. Where the new study scores by a metric of which
    another run gives other numbers, it is refused to take those over, unless told by `observed`.
    An interrupted fork may be repeated. Raises UserError.
    """
    spec = load_study(study, overrides)
    past = read(directory).history
    named = RUNS / spec.name if target is None else target
    target = _free(named, directory, spec) if target is None else target
    task = _other_task(past, spec)
    if not (task or observed):
        _refuse_observed(directory, past, spec)
    old = _configurations(past, spec, same_task=not task)
    if not old.chosen:
        raise _nothing(directory, old, spec.space)
    extended = _begun(directory, target, spec, old)
    with Study(extended, target) as new:
        _reuse(new, {} if task else _known(past, new), directory)
        asked, reused = len(new.history.records), new.history.reused
    return Fork(
        directory=target,
        enqueued=len(old.chosen),
        reused=reused,
        to_train=asked - reused,
        outside=len(old.outside),
        other_budgets=old.other_budgets,
        no_room=max(len(extended.enqueue) - asked, 0),
        task=task,
        taken=named if named != target else None,
    )


def _free(named: Path, directory: Path, spec: StudySpec) -> Path:
    """The folder, or it with a number, where there is no study but this very fork, begun before."""
    numbered = (named.with_name(f"{named.name}-{i}") for i in itertools.count(2))
    return next(
        folder
        for folder in itertools.chain([named], numbered)
        if not studies_in(folder)
        and (not (folder / LEDGER).exists() or _is_begun(folder, directory, spec))
    )


def _is_begun(folder: Path, directory: Path, spec: StudySpec) -> bool:
    try:
        header = read(folder).history.header
        replay.check_same_study(replay.as_begun(spec, folder), ledger.read(folder), folder)
    except UserError:
        return False
    return bool(header.get("forked", {}).get("study") == str(directory.absolute()))


def _other_task(past: History, spec: StudySpec) -> str:
    """The first difference between what the studies train, `model.name`; empty: there is none."""
    before = {**past.header.get("plugins", {}), **past.header.get("files", {})}
    now = {**digests(spec.sources), **file_digests(spec.task.files())}
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            return str(name)
    records = (past.header["spec"], spec.record())
    old, new = (keys.part(record["task"], Meaning.WHAT) for record in records)
    return next((key for key, _, _ in differences(old, new)), "")


def _refuse_observed(directory: Path, past: History, spec: StudySpec) -> None:
    """Raise UserError where the study would score by what the old one's runs have observed."""
    for name in sorted(recorded.observed(spec)):
        if any(name in record.outcome.metrics for record in past.told() if record.outcome):
            raise UserError(
                f"{spec.where('objective')}: the study scores by {name!r}, of which each run gives "
                f"another number, and those in {directory} are of other runs: take them over by "
                "--observed, or train the study anew by hpogen run"
            )


@dataclass(frozen=True)
class Old:
    """The configurations of the old study that have finished, each once, in order of trial."""

    useful: list[Config]  # to enqueue; the task being the same, their outcomes serve
    others: list[Config]  # to enqueue; to be trained
    outside: list[Config]
    other_budgets: int

    @property
    def chosen(self) -> list[Config]:
        return [*self.useful, *self.others]


def _configurations(past: History, spec: StudySpec, *, same_task: bool) -> Old:
    """Another task's budgets are nothing that these configurations are bound to."""
    finished = [record for record in past.told() if record.twin is None]
    useful, others, outside, other_budgets = [], [], [], 0
    records: dict[str, list[Record]] = {}
    for record in finished:
        records.setdefault(canonical(record.trial.config), []).append(record)
    for of_config in records.values():
        config = of_config[0].trial.config
        asked = [r for r in of_config if r.trial.rung in spec.ladder]
        if not spec.space.contains(config):
            outside.append(config)
        elif same_task and not asked:
            other_budgets += 1
        elif same_task and any(map(_serves, asked)):
            useful.append(config)
        else:
            others.append(config)
    return Old(useful, others, outside, other_budgets)


def _serves(record: Record) -> bool:
    """Other failures are tried again."""
    return record.failure is None or record.failure.kind == "diverged"


def _nothing(directory: Path, old: Old, space: Space) -> UserError:
    cause = f"; {_cause(space, old.outside)}" if old.outside else ""
    return UserError(
        f"{directory}: there is nothing to begin with: of its finished configurations "
        f"{len(old.outside)} are not in the new search space, {old.other_budgets} were trained for "
        f"other budgets only{cause}"
    )


def _cause(space: Space, outside: Sequence[Config]) -> str:
    """Why they are not in the space: for want of a parameter, or else what the first one says."""
    known, parameters = set().union(*outside), space.parameters
    absent = [name for name, p in parameters.items() if name not in known and not p.when]
    rest = Space({n: p for n, p in parameters.items() if n not in absent}, space.forbidden)
    inside = sum(map(rest.contains, outside))
    if not absent or not inside:
        return f"the first of them: {space.why_not(outside[0])}"
    names, them = ", ".join(map(repr, absent)), "them" if absent[1:] else "it"
    return (
        f"none has {names}: without {them} in search_space {inside} of them would be in it (with "
        f"{them} as a constant none would); to search {them}, write old configurations under "
        "enqueue, where what they lack takes its default"
    )


def _begun(directory: Path, target: Path, spec: StudySpec, old: Old) -> StudySpec:
    """Write the header of the new study, which says where it comes from, or find it there.

    What can be told at once is enqueued first, so that no searcher waits for training before it.
    """
    if studies_in(target):
        raise UserError(f"{target}: here are the studies of a matrix: use another --dir")
    origin = str(directory.absolute())
    own = [dict(config) for config in spec.enqueue]
    configs = {canonical(c): c for c in (*old.useful, *spec.enqueue, *old.others)}
    extended = replace(spec, enqueue=tuple(configs.values()))
    try:
        extended.make_searcher()
    except UserError as error:
        raise UserError(f"{spec.where('searcher')}: {error}") from error
    with closing(ledger.Ledger(target)) as written:
        if written.events:
            header = history.checked(written.events, written.path).header
            if header.get("forked", {}).get("study") != origin:
                raise UserError(f"{target}: here is a study already: use another --dir, or none")
            return replay.as_begun(spec, target)
        written.append(replay.begin(extended, target, {"study": origin, "enqueue": own}))
    return extended


def _known(past: History, new: Study) -> dict[Key, Record]:
    """The outcomes that serve the new study, as `reuse.py` sees it, whatever code gave them.

    None where that keeps of each trial what the old one has not kept.
    """
    found: dict[Key, Record] = {}
    warm = (past.header["spec"].get("budgets") or {}).get("warm", False)
    tasks, wanted = (past.header["spec"]["task"], new.spec.record()["task"]), new.wanted
    with plugins.scope(new.spec.scope):
        before, now = (_measured(task, wanted) for task in tasks)
    kept = [keys.part(task, Meaning.OBSERVED).get("keep") for task in tasks]
    if before != now or kept[1] not in (None, kept[0]):
        return found
    for record in past.told():
        metrics = record.outcome.metrics if record.outcome else {}
        if record.twin is not None or (warm and record.trial.parent is not None):
            continue
        if _serves(record) and (record.failure or wanted <= metrics.keys()):
            found.setdefault(key_of(record.trial), record)
    return found


def _measured(task: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """How the metrics wanted are measured: on how many samples, how often."""
    measures = keys.part(task, Meaning.OBSERVED).get("measures", ())
    listed = {measure["name"]: measure for measure in measures}
    return {
        m.name: listed.get(m.name, {"name": m.name, "every": 1, "samples": None})
        for m in plugins.measures.parts()
        if {*wanted} & {*m.metrics}
    }


def _reuse(new: Study, known: Mapping[Key, Record], directory: Path) -> None:
    """Ask for the enqueued trials, and give those that are known their outcomes.

    A searcher of rungs is asked on as long as it promotes what is known. What a rung above may
    continue is trained: nothing else gives its checkpoint.
    """
    enqueued = {canonical(config) for config in new.spec.enqueue}
    rungs = new.spec.searcher.declares("multi_fidelity")
    left = len(enqueued) - sum(record.outcome is not None for record in new.history.records)
    for _ in itertools.count() if rungs else range(left):
        trial = new.next()
        if trial is None:
            return
        record = known.get(key_of(trial)) if new.spec.shares(trial) else None
        if record is not None and record.outcome is not None:
            new.reuse(trial.id, record.outcome, directory)
        elif canonical(trial.config) not in enqueued:
            return
