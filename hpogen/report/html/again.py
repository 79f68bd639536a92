"""What it takes to make the studies again: commands, specs, versions, devices, hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from hpogen.record.ledger import LEDGER
from hpogen.report.html.blocks import Section, render
from hpogen.report.html.material import Material
from hpogen.report.verdict import command
from hpogen.spec.environment import escaped
from hpogen.study.read import Folder

DEVICES = 20  # trials whose curves are looked into for their devices


def again(material: Material, program: str) -> Section:
    """Can I repeat this?"""
    studies = [_facts(study, program) for study in material.studies]
    return Section(
        "again",
        "Make it again",
        "Can this be repeated? A study's spec, saved as study.yaml, is run again by the command "
        "under it; on the same kind of processor and the same versions its metrics come out bit "
        "for bit, in whatever order trials are trained.",
        body=render("again.html.j2", studies=studies, commands=_commands(material, program)),
    )


def _commands(material: Material, program: str) -> list[str]:
    folders = [*map(str, material.comparison.given)]
    primary = material.comparison.primary
    contrast = ["--primary", " - ".join(primary)] if primary else []
    return [
        command(program, "compare", *folders, *contrast),
        command(program, "report", *folders, *contrast),
    ]


def _facts(study: Folder, program: str) -> dict[str, Any]:
    header = study.history.header
    return {
        "name": study.name,
        "folder": str(study.directory),
        "spec": escaped(json.dumps(study.spec.record(), indent=2, ensure_ascii=False)),
        "command": command(program, "run", "study.yaml", "--dir", str(study.directory) + "-again"),
        "versions": ", ".join(f"{k} {v}" for k, v in header.get("versions", {}).items()),
        "machine": ", ".join(f"{k} {v}" for k, v in header.get("machine", {}).items()),
        "devices": ", ".join(_devices(study)) or "not recorded",
        "code": ", ".join(_codes(study)) or "not recorded",
        "plugins": [*header.get("plugins", {}).items()],
        "ledger": hashlib.sha256((study.directory / LEDGER).read_bytes()).hexdigest(),
    }


def _devices(study: Folder) -> Iterable[str]:
    """Of the last trials, from their curves."""
    found = {
        str(row["device"])
        for number in study.order[-DEVICES:]
        for row in study.curve(number)[-1:]
        if row.get("device")
    }
    return sorted(found)


def _codes(study: Folder) -> Iterable[str]:
    """The names of the code that trained, see `hpogen.record.provenance`."""
    codes = {r.outcome.code for r in study.history.records if r.outcome and r.outcome.code}
    return sorted(codes)
