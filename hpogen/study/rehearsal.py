"""What a study will do, before it does anything: how many configurations, trials and epochs.

`hpogen check` prints it. Nothing is trained: it is arithmetic, or the searcher is asked; where the
numbers depend on scores, made-up ones are told.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import math
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import FrameType
from typing import Any

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.plugins import OWN_TASKS
from hpogen.plugins.interrupts import Ours
from hpogen.searchers.brackets import Plan
from hpogen.searchers.brackets import Rung as BracketRung
from hpogen.selection.evidence import REPEATS, TOP
from hpogen.spec import SearcherSpec, StudySpec
from hpogen.spec.checks import extremes
from hpogen.spec.reserve import NO_END
from hpogen.trial import Proposal, canonical, plain

CHECKPOINT = 3  # times the weights: with what the optimizer knows of them
BOUND = 0.5  # seconds of processor time that the rehearsals of one plan take, all together
COSTS = ("configurations", "evaluations", "epochs_charged", "epochs_trained")
TICK = 0.01  # seconds: an interval timer goes by these
AGAIN = 0.2  # seconds after which a timer whose exception was swallowed comes once more
LOSING = ("weakref", "_weakrefset")  # modules whose callbacks print an exception and go on


def plan(spec: StudySpec) -> dict[str, Any]:
    """The plan and the effective spec, as data that goes through JSON.

    `configurations` are those proposed anew, `evaluations` all trials. They and the epochs are
    null where that is known only once the searcher has been asked, and asking took too long;
    `at_least` has then how far it came, and is null otherwise. Where only hours end a study, all of
    these are null; those of a searcher that ends by itself are the most there can be. `brackets`
    are the rungs of each, null for a searcher without them. How long it takes is not known: null.
    """
    return plans([spec])[0]


def plans(specs: Sequence[StudySpec]) -> list[dict[str, Any]]:
    """The plans of many studies, in the time of one: those that must cost the same are one."""
    known: dict[str, tuple[dict[str, Any], Any]] = {}
    for spec in specs:
        _import_engine(spec)
    left, found = BOUND, []
    for i, spec in enumerate(specs):
        key = _decisive(spec)
        if key not in known:
            begin = time.process_time()
            counted = cost(spec, left / (len(specs) - i))
            left -= time.process_time() - begin
            known[key] = _numbers(spec, counted), _brackets(spec)
        numbers, brackets = known[key]
        rest = {"brackets": brackets, "disk": disk(spec, numbers["evaluations"])}
        rest |= {"estimated_seconds": None, "study": spec.record()}
        found.append({"name": spec.name, **numbers, **rest})
    return found


def _import_engine(spec: StudySpec) -> None:
    """What the searcher imports when it is first asked, if it may be: that is not on the clock."""
    part = spec.searcher.part
    if spec.reserve.trials or not hasattr(part, "size"):
        for module in getattr(part, "imports", ()):
            importlib.import_module(module)


def _decisive(spec: StudySpec) -> str:
    """What decides how much a study asks for, as JSON; another's searcher may look at its seed."""
    record = spec.record()
    keys = ["search_space", "searcher", "enqueue", "budgets", "rungs"]
    keys += ["selection", "finalists", "stop"]
    if not plugins.searchers.is_builtin(spec.searcher.name):
        keys.append("seed")
    task = spec.task.subset, spec.task.parts
    return json.dumps([spec.ladder, task, *(record[key] for key in keys)])


def _numbers(spec: StudySpec, counted: Cost) -> dict[str, Any]:
    continued = counted.continued if spec.rungs == "continue" and not spec.warm else 0
    trained = counted.charged - continued
    values = (counted.configurations, counted.evaluations, *map(plain, (counted.charged, trained)))
    numbers = dict(zip(COSTS, values, strict=True))
    if counted.whole:
        return {**numbers, "at_least": None}
    if _room(spec) == (NO_END, NO_END):
        return {**dict.fromkeys(COSTS), "at_least": None}
    return {**dict.fromkeys(COSTS), "at_least": numbers}


def _brackets(spec: StudySpec) -> list[list[dict[str, int | float]]] | None:
    plan = declared(spec)
    if plan is None:
        return None
    return [[_rung(spec, rung) for rung in bracket] for bracket in plan]


def _rung(spec: StudySpec, rung: BracketRung) -> dict[str, int | float]:
    """With rungs over data also the fraction, and what a trial is charged where that is other."""
    budget, data = trained = spec.rung(rung.budget)
    found: dict[str, int | float] = {"budget": budget, "configurations": rung.configurations}
    if spec.data is not None:
        found["data"] = data or spec.task.subset or 1.0
    if spec.data is None and spec.task.parts.number == 1:
        return found
    return {**found, "charged": plain(spec.cost(trained))}


def disk(spec: StudySpec, trials: int | None) -> dict[str, int | None]:
    """Bytes, about: of one trial's `weights`, and of all that is `kept` of so many trials.

    `probabilities` are those of one trial's samples. Of `keep: all` it is not known how many
    checkpoints there will be: null, as for a network whose size is not known beforehand.
    """
    keep, top = spec.checkpoints.keep, spec.checkpoints.top
    shares = spec.task.probabilities_bytes()
    predicts = spec.task.name in OWN_TASKS  # others' checkpoints are kept, and no such file
    if keep == "none" or not spec.task.keeps_weights or (keep == "best" and not predicts):
        return {"weights": None, "kept": 0, "probabilities": shares}
    values = {name: extremes(parameter) for name, parameter in spec.space.parameters.items()}
    weights = spec.task.weights_bytes(values)
    files = {"best": top if trials is None else min(top, trials), "final": trials}.get(keep)
    each = CHECKPOINT if keep == "final" else 1
    kept = None if weights is None or files is None else each * weights * files
    return {"weights": weights, "kept": kept, "probabilities": shares}


def missing_data(spec: StudySpec) -> str | None:
    """Which data are not on disk yet, or None. Raises UserError where they may not be read."""
    place = spec.where("task.dataset")
    try:
        found = spec.task.missing()
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    return f"{place}: {found}" if found else None


def data_facts(spec: StudySpec) -> list[str]:
    """What its data are, where that is quickly read. Raises UserError for what is wrong in them."""
    try:
        return spec.task.facts()
    except UserError as error:
        raise UserError(f"{spec.where('task.dataset')}: {error}") from None


@dataclass
class Cost:
    """What a study asks for; with `whole` unset it goes on from here."""

    configurations: int = 0  # proposed anew
    evaluations: int = 0
    charged: int | Fraction = 0  # epochs
    continued: int | Fraction = 0  # of these, epochs that the parents of the trials have trained
    whole: bool = True

    def add(
        self, trials: int, epochs: int | Fraction, *, anew: int = 0, parent: int | Fraction = 0
    ) -> None:
        """Trials that are charged so much each; `parent`: those that they go on from were."""
        self.configurations += anew
        self.evaluations += trials
        self.charged += trials * epochs
        self.continued += trials * parent


def cost(spec: StudySpec, seconds: float) -> Cost:
    """The whole study, or as far as it could be rehearsed in so many seconds of processor time.

    Outside the main thread an engine's single call is not interrupted.
    """
    deadline = time.process_time() + seconds
    endless = getattr(spec.searcher.part, "size", None) == math.inf
    trials, epochs = _room(spec)
    if endless and trials == epochs == NO_END:
        return Cost(whole=False)
    by_arithmetic = _of_one_budget(spec) or _of_brackets(spec)
    found = by_arithmetic or Cost()
    with contextlib.suppress(Enough), _at_most(seconds):
        found.whole = False
        if by_arithmetic is None:
            _rehearse(spec, found, deadline)
        if spec.reserve.trials:
            found.add(*_again(spec, deadline))
        found.whole = True
    if not found.whole and endless and epochs == NO_END:
        found.evaluations = trials
    return found


def _room(spec: StudySpec) -> tuple[int, int | Fraction]:
    return spec.reserve.room(spec.stop.model_dump())


def _of_one_budget(spec: StudySpec) -> Cost | None:
    if spec.searcher.declares("multi_fidelity"):
        return None
    searcher = spec.make_searcher()
    size = getattr(searcher, "size", None)
    if size is None:
        return None
    (rung,), found = spec.ladder, Cost()
    trials, epochs = _room(spec)
    number = int(min(size, trials, epochs // spec.cost(rung)))
    found.add(number, spec.cost(rung), anew=min(number, getattr(searcher, "anew", number)))
    return found


def _of_brackets(spec: StudySpec) -> Cost | None:
    """One bracket after the other, as they run with one worker where no trial fails."""
    plan = declared(spec)
    if plan is None or not plugins.searchers.is_builtin(spec.searcher.name):
        return None
    found = Cost()
    trials, epochs = _room(spec)
    for bracket in plan:
        below: int | Fraction = 0
        for rung in bracket:
            cost = spec.cost(spec.rung(rung.budget))
            left = min(trials - found.evaluations, (epochs - found.charged) // cost)
            number = min(rung.configurations, left)
            found.add(number, cost, anew=0 if below else number, parent=below)
            if number < rung.configurations:
                return found
            below = cost
    return found


def declared(spec: StudySpec) -> Plan | None:
    """What a searcher that goes by brackets declares by its `plan(budgets, **options)`."""
    declares = getattr(spec.searcher.part, "plan", None)
    return declares(spec.budgets, **spec.searcher.options) if declares is not None else None


def _rehearse(spec: StudySpec, found: Cost, deadline: float) -> None:
    """Count the proposals one by one."""
    costs: list[int | Fraction] = []  # by trial
    for proposal in _proposals(spec, deadline):
        below = None if proposal.parent is None else costs[proposal.parent]
        anew = below is None and proposal.replicate == 0
        costs.append(spec.cost(spec.rung(proposal.budget)))
        found.add(1, costs[-1], anew=anew, parent=below or 0)


def _again(spec: StudySpec, deadline: float) -> tuple[int, int | Fraction]:
    """How many trials the study itself asks for at its end, at most, and what each is charged."""
    rules = spec.finalists
    top, seeds = (rules.count, rules.seeds) if rules else (TOP, REPEATS)
    return seeds * _repeated(spec, top, deadline), spec.cost(spec.final_rung)


def _repeated(spec: StudySpec, top: int, deadline: float) -> int:
    """How many configurations the study trains again at its end; which ones, it does not know."""
    configs: set[str] = set()
    for proposal in _proposals(spec, deadline):
        if proposal.budget == spec.budgets[-1]:
            configs.add(canonical(proposal.config))
        if len(configs) == top:
            break
    return len(configs)


def _proposals(spec: StudySpec, deadline: float) -> Iterator[Proposal]:
    """The proposals of the whole study, one trial at a time, on random scores.

    Raises Enough when the processor time of the process is past the deadline.
    """
    searcher = _cheaper(spec).make_searcher()
    score = random.Random(0).random
    trials, epochs = _room(spec)
    for trial in itertools.count():
        if time.process_time() > deadline:
            raise Enough
        if trial >= trials or (proposal := searcher.ask()) is None:
            return
        epochs -= spec.cost(spec.rung(proposal.budget))
        if epochs < 0:
            return
        yield proposal
        searcher.tell(trial, score())


def _cheaper(spec: StudySpec) -> StudySpec:
    """ASHA promotes by score: whatever draws its configurations, it asks for as much."""
    if spec.searcher.name != "asha":
        return spec
    return replace(spec, searcher=SearcherSpec("asha", {"sampler": "random"}))


class Enough(Ours):
    """So much processor time is spent; no engine catches it."""


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `Enough` in the block once it has taken so much processor time, threads together."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def enough(number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_globals.get("__name__") in LOSING:
            signal.setitimer(signal.ITIMER_PROF, TICK, AGAIN)
            return
        raise Enough

    before = signal.signal(signal.SIGPROF, enough)
    signal.setitimer(signal.ITIMER_PROF, max(seconds, TICK), AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
