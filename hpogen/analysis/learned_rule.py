"""A learned objective as a rule that chooses among a study's finished trials; `rescore` asks.

All trials are there, so that the ranks which the model reads are those among all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpogen.analysis.choices import Rule, Trials
from hpogen.errors import UserError, quoted, unknown
from hpogen.objective import Objective, Term
from hpogen.spec.learned import read_learned
from hpogen.spec.steering import LEARNED
from hpogen.study.read import Folder

KEYS = ("preset", "model", "force")


def is_learned(form: Mapping[str, Any] | None) -> bool:
    return form is not None and form.get("preset") == LEARNED


def learned_rule(form: Mapping[str, Any], trials: Trials) -> tuple[Rule, str]:
    """The rule of `{preset: learned, model: gap.json}`, and what a reader of it must know.

    Raises UserError where on tasks left out the model was not better than validation loss with as
    many labels as the study has, unless `force` is true; where trials lack one of its measures.
    """
    model, force = _checked(form)
    study, found = trials.study, read_learned(model)
    caution = found.caution(_labels(trials))
    if caution and not force:
        raise UserError(f"{model}: {caution}: write force: true to use it all the same")
    try:
        found.scores(trials.evidence.metrics)
    except UserError as error:
        raise UserError(f"{study.directory}: {error}") from None
    said = [f"Do not trust it here: {model}: {caution}."] if caution else []
    if study.history.id and study.history.id in {source.id for source in found.studies}:
        said.append(f"{model} was learned from this study, too: its choice here is no test of it.")
    terms = tuple(Term(name, 1.0) for name in found.measures)
    rule = Rule(f"learned ({model.name})", Objective(terms, LEARNED), "score", found.scores)
    return rule, " ".join(said)


def _checked(form: Mapping[str, Any]) -> tuple[Path, bool]:
    for key in form:
        if key not in KEYS:
            raise UserError(f"--objective: preset learned: {unknown('key', key, KEYS)}")
    model, force = form.get("model"), form.get("force", False)
    if not isinstance(model, str) or not model:
        raise UserError(
            f"--objective: preset learned: got model {quoted(model)}, expected the file that "
            "hpogen learn has made, as in {preset: learned, model: gap.json}"
        )
    if not isinstance(force, bool):
        raise UserError(f"--objective: preset learned: got force {quoted(force)}, expected true")
    return Path(model), force


def _labels(trials: Trials) -> int | None:
    """How many validation labels the study has; 0 where it has no validation loss.

    None: neither its folder nor its YAML says.
    """
    if not all("val_loss" in metrics for metrics in trials.evidence.metrics):
        return 0
    return trials.validation_images() or validation_of(trials.study)


def validation_of(study: Folder) -> int | None:
    """The validation samples that the study's YAML says; None where it says none."""
    dataset = study.spec.record()["task"].get("dataset")
    images = dataset.get("validation") if isinstance(dataset, Mapping) else None
    return images if isinstance(images, int) else None
