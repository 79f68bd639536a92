"""Whether a folder's study may go on: the same spec, the same plug-ins, the same proposals.

The Study asks here when it opens a folder that has a ledger.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import platform
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpogen.errors import UserError, explained, quoted
from hpogen.record import folder
from hpogen.record.events import Forked
from hpogen.record.history import checked
from hpogen.record.ledger import FORMAT, LEDGER, Event, new_id, parse
from hpogen.record.provenance import digests, file_digests, machine
from hpogen.spec import StudySpec, changes
from hpogen.spec.recorded import declared
from hpogen.trial import Proposal, Trial

log = logging.getLogger("hpogen.study")
progress = logging.getLogger("hpogen.replay")

PACKAGES = ("hpogen", "numpy", "torch", "torchvision", "cma", "pyswarms", "hpbandster", "optuna")
ENGINES = {
    "cmaes": "cma",
    "pso": "pyswarms",
    "bohb": "hpbandster",
    "optuna": "optuna",
    "asha": "optuna",
}
"""By searcher: the package that proposes."""
SHOWN_AFTER = 2.0  # seconds that a replay may take without a word
SAME = 1e-9  # how far a replayed number may be from the recorded one, relatively

Stop = dict[str, Any]


def begin(spec: StudySpec, directory: Path, forked: Forked | None = None) -> Event:
    """Make a folder ready for a new study; the first line of its ledger. Raises UserError."""
    study, recorded = new_id(), digests(spec.sources)
    files = file_digests(spec.task.files())
    with explained(directory, UserError):
        folder.begin(directory, study)
        _keep_plugins(spec, directory)
    return {
        "kind": "study",
        "format": FORMAT,
        "id": study,
        "spec": spec.record(),
        "declared": declared(spec),
        "plugins": recorded,
        "versions": _versions(),
        "machine": machine(),
        **({"files": files} if files else {}),
        **({"forked": forked} if forked else {}),
    }


def as_begun(spec: StudySpec, directory: Path) -> StudySpec:
    """The study with what the folder's was begun with although no YAML says it, if it was.

    What `hpogen fork` enqueued, and the defaults that its searcher had then.
    """
    try:
        with open(directory / LEDGER, "rb") as file:
            first = parse(file.readline(), directory / LEDGER).events
    except OSError:
        return spec
    if not first:
        return spec
    header = checked(first, directory / LEDGER).header
    spec = _with_earlier_defaults(spec, header["spec"]["searcher"])
    forked = header.get("forked")
    if forked is None or [dict(config) for config in spec.enqueue] != forked["enqueue"]:
        return spec
    return replace(spec, enqueue=tuple(header["spec"].get("enqueue", ())))


def _with_earlier_defaults(spec: StudySpec, recorded: Mapping[str, Any]) -> StudySpec:
    """With the recorded value of each option that is not written and had it as its default."""
    searcher = spec.searcher
    if recorded.get("name") != searcher.name:
        return spec
    earlier = getattr(searcher.part, "earlier", {})
    kept = {
        option: earlier[option]
        for option in earlier.keys() & searcher.filled
        if recorded.get(option) == earlier[option]
    }
    return replace(spec, searcher=replace(searcher, options={**searcher.options, **kept}))


def replayed(lines: Sequence[Event]) -> Iterator[Event]:
    """The events one by one; after two seconds, and then now and again, the log says how far."""
    trials, done = sum(event["kind"] == "asked" for event in lines), 0
    begin = time.monotonic()
    due = begin + SHOWN_AFTER
    for event in lines:
        if event["kind"] == "asked":
            if (now := time.monotonic()) >= due:
                progress.info("replay trials=%d of=%d seconds=%.0f", done, trials, now - begin)
                due = now + max(SHOWN_AFTER, (now - begin) / 4)
            done += 1
        yield event


def _keep_plugins(spec: StudySpec, directory: Path) -> None:
    """Copy the plug-in files into the folder, so that it can be resumed without the originals."""
    for name, source in spec.sources.items():
        (directory / "plugins").mkdir(exist_ok=True)
        kept = directory / "plugins" / name
        if not (kept.exists() and kept.read_bytes() == source):
            kept.write_bytes(source)


def check_same_study(spec: StudySpec, lines: list[Event], directory: Path) -> Stop | None:
    """The raised `stop`, or None where it is as recorded. Raises UserError for another study."""
    first = lines[0]
    stop = next((e["stop"] for e in reversed(lines) if e["kind"] == "extended"), None)
    old = {**_completed(first["spec"], spec), "stop": stop or first["spec"]["stop"]}
    new = _completed(spec.record(), spec)
    for key, was, now in changes(old, new):
        if key.split(".")[0] != "stop":
            raise _differs(spec, directory, key, was, now)
    before, after = first.get("plugins", {}), digests(spec.sources)
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was != now:
            raise _differs(spec, directory, f"plugins.{name}", _digest(was), _digest(now))
    after = file_digests(spec.task.files())
    for name, was in first.get("files", {}).items():
        if was != (now := after.get(name)):
            raise _differs(spec, directory, name, _digest(was), _digest(now))
    versions = _versions()
    for package, was in first.get("versions", {}).items():
        if (now := versions.get(package)) != was:
            log.warning("version package=%s recorded=%s now=%s", package, was, now)
    return _raised(spec, directory, old["stop"], new["stop"])


def _completed(record: dict[str, Any], spec: StudySpec) -> dict[str, Any]:
    """A study's record with the defaults of keys that are younger than it."""
    try:
        return spec.with_record(record).record()
    except UserError:  # it names what is no more: as it stands, it differs
        return record


def _differs(spec: StudySpec, directory: Path, key: str, was: object, now: object) -> UserError:
    return UserError(
        f"{spec.where(key)}: {key}: {quoted(now)}, but the study in {directory} was begun with "
        f"{quoted(was)}; take that back, or {_anew(spec, directory)}"
    )


def _anew(spec: StudySpec, directory: Path) -> str:
    """How to start what cannot go on in the folder; there is one command for a file's own study."""
    if not spec.typed:
        return "start a new study with --dir"
    return (
        f"start a new study with these trials: hpogen fork {shlex.quote(str(directory))} "
        f"{spec.typed}"
    )


def _raised(spec: StudySpec, directory: Path, was: Stop, now: Stop) -> Stop | None:
    for key in {**was, **now}:
        before, after = was.get(key), now.get(key)
        if (after or math.inf) < (before or math.inf):
            raise UserError(
                f"{spec.where(f'stop.{key}')}: stop.{key}: {after}, but the study in "
                f"{directory} has {before or 'none'}; stop can only be raised"
            )
    return now if now != was else None


def check_same_proposal(proposal: Proposal | None, trial: Trial, where: str, header: Event) -> None:
    """The engine must propose what it proposed before; tiny differences are the machine's.

    Raises UserError naming `where` (the ledger's line), the first difference, and the packages
    that have another version than the ledger's first line, `header`, says.
    """
    for what, was, now in _differences(proposal, trial):
        if _close(was, now):
            log.warning("replay trial=%d %s=%r now=%r action=recorded", trial.id, what, was, now)
            continue
        raise UserError(
            f"{where}: on replay the searcher proposes {what} = {quoted(now)} for trial "
            f"{trial.id}, the ledger has {quoted(was)}: {_cause(header)}, or begin another study "
            "from its trials with hpogen fork"
        )


def _cause(header: Event) -> str:
    """Why a searcher proposes something else, as far as the versions tell, and what to do."""
    begun, now = header.get("versions", {}), _versions()
    engine = ENGINES.get(header["spec"]["searcher"]["name"])
    asked = (engine, "numpy") if engine else ("numpy", *sorted({*ENGINES.values()}))
    other = [name for name in asked if name in begun and begun[name] != now.get(name)]
    if not other:
        return "with the same versions of its packages; go on on the machine that it was begun on"
    was = " and ".join(f"{name} {begun[name]}" for name in other)
    have = " and ".join(now.get(name, "none") for name in other)
    pinned = " ".join(f"{name}=={begun[name]}" for name in other)
    return f"it was begun with {was}, here is {have}: pip install {pinned}"


def _differences(proposal: Proposal | None, trial: Trial) -> Iterator[tuple[str, object, object]]:
    """Where a replayed proposal is not the recorded trial: what, recorded, now."""
    if proposal is None:
        yield ("a trial", True, None)
        return
    for name in ("budget", "data", "parent", "cohort", "replicate"):
        was, now = getattr(trial, name), getattr(proposal, name)
        if was != now:
            yield (name, was, now)
    for name in sorted({*trial.config, *proposal.config}):
        recorded, proposed = trial.config.get(name), proposal.config.get(name)
        if recorded != proposed or (name in trial.config) != (name in proposal.config):
            yield (name, recorded, proposed)


def _close(was: object, now: object) -> bool:
    return (
        isinstance(was, float) and isinstance(now, float) and math.isclose(was, now, rel_tol=SAME)
    )


def _digest(sha256: str | None) -> str:
    return f"sha256:{sha256[:12]}" if sha256 else "no such file"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
