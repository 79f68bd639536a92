"""A study's spec with another objective or selection, to be asked of the trials that are there.

`hpogen rescore`, and the options `--selection` and `--objective` of other commands, ask here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from hpogen import plugins
from hpogen.errors import UserError, quoted, unknown
from hpogen.objective import PRESETS, SCALES, Alpha, Found
from hpogen.selection import SELECTIONS
from hpogen.spec import StudySpec
from hpogen.spec.positions import Unreadable, parse
from hpogen.spec.pruning import Prune
from hpogen.spec.recorded import restated_spec, with_prune
from hpogen.spec.steering import LEARNED
from hpogen.study.read import Folder

Form = Mapping[str, Any]
"""An objective in the form of the YAML."""


def alpha_of(text: float | str) -> Alpha:
    """An α as it is typed: a number, `auto` or `swept`. Raises UserError."""
    if text in get_args(Found):
        return cast("Found", text)
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--alpha: got {quoted(text)}, expected a number, auto or swept") from None


def objective_form(
    text: str, alpha: Alpha | None = None, scale: str | None = None, own: Form | None = None
) -> Form:
    """An objective as it is typed: a preset with alpha and scale, or `terms` as YAML.

    Where a preset with AGN is given no alpha or scale, those of the study's `own` objective serve,
    then 1 and none. Raises UserError.
    """
    if scale is not None and scale not in SCALES:
        raise UserError(f"--scale: {unknown('scale', scale, SCALES)}")
    if text == LEARNED:
        return {"preset": LEARNED}  # whoever is asked says that its model is missing
    if text in PRESETS:
        return _preset(text, alpha, scale, own or {})
    try:
        data = parse(text).data
    except Unreadable as error:
        raise UserError(f"--objective: got {quoted(text)}: {error}") from None
    if isinstance(data, list):
        data = {"terms": data}
    if not isinstance(data, dict):
        raise UserError(f"--objective: {unknown('', text, PRESETS)}, and no list of terms as YAML")
    given = {"alpha": alpha, "scale": scale}
    return {**data, **{key: value for key, value in given.items() if value is not None}}


def scores_form(scores: str | None, objective: str | None = None) -> str | None:
    """The scores of a Pareto objective as they are typed, in the form of the YAML; else the other.

    `val_loss, {metric: agn, scale: log}`, with or without brackets. Raises UserError.
    """
    if scores is None:
        return objective
    if objective is not None:
        raise UserError("--pareto: got --objective, too, expected one of them")
    listed = scores if scores.strip().startswith("[") else f"[{scores}]"
    return f"{{pareto: {listed}}}"


def weighed(own: Form, alpha: Alpha) -> Form:
    """An objective with another α, by which its `part` goes with the one that it was for."""
    found = {key: x for key, x in own.items() if key != "part"}
    return {**found, "alpha": alpha if isinstance(alpha, str) else float(alpha)}


def _preset(text: str, alpha: Alpha | None, scale: str | None, own: Form) -> Form:
    found: dict[str, Any] = {"preset": text}
    if text.startswith("agn"):
        if alpha is None:
            kept = ("alpha", "part", "standard_after") if "part" in own else ("alpha",)
            found |= {"alpha": 1.0} | {key: own[key] for key in kept if key in own}
        scale = scale or own.get("scale")
    found = found if alpha is None else {**weighed(found, alpha)}
    return found if scale is None else {**found, "scale": scale}


def restated(
    study: Folder, objective: Form | None = None, selection: str | None = None
) -> StudySpec:
    """The study's spec with that objective and selection, checked as at load; None: its own.

    Raises UserError beginning with the folder, also where a finished trial lacks a metric.
    """
    if objective is None and selection is None:
        return study.spec
    try:
        found = restated_spec(study.spec, objective, selection)
    except UserError as error:
        raise UserError(f"{study.directory}: {error}") from error
    _require_metrics(found, study)
    return found


def pruning(study: Folder, text: str) -> Prune:
    """A `prune` as it is typed: a rule, or a mapping as YAML. Raises UserError."""
    try:
        data = parse(text).data
    except Unreadable as error:
        raise UserError(f"--prune: got {quoted(text)}: {error}") from None
    if not isinstance(data, (str, dict)):
        raise UserError(f"--prune: got {quoted(text)}, expected a rule, or a mapping with rule")
    try:
        found = with_prune(study.spec, data).prune
    except UserError as error:
        raise UserError(f"{study.directory}: {error}") from error
    assert found is not None
    return found


def _require_metrics(spec: StudySpec, study: Folder) -> None:
    records = study.finished
    for metric in sorted(spec.objective.metrics | SELECTIONS[spec.selection].needs):
        lacking = [r.trial.id for r in records if r.outcome and metric not in r.outcome.metrics]
        if lacking:
            raise UserError(
                f"{study.directory}: {len(lacking)} of {len(records)} trials (the first: "
                f"{lacking[0]}) do not have the metric {metric}: "
                f"{_how_to_get(metric, study.directory)}"
            )


def _how_to_get(metric: str, directory: Path) -> str:
    for measure in plugins.measures.parts():
        if metric not in measure.metrics:
            continue
        if measure.of != "step" and metric not in measure.sums | measure.means:
            return f"add it with hpogen measure {directory} --add {measure.name}"
        return (
            f"it is collected while training: a study with task.measures: [{measure.name}] has it"
        )
    return "their task did not give it"
