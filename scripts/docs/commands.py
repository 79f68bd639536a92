"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from tables import anchored, table

from hpogen.cli import beginning, launching, looking, results
from hpogen.cli.app import app

NOTHING = (None, "", [], ())


def program() -> Mapping[str, Any]:
    """The commands of `hpogen` by name, as typer makes them."""
    assert beginning and launching and looking and results  # they register the commands
    commands: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return commands


def commands() -> str:
    """A section for each command: what it does, its usage, its arguments and options."""
    return "\n\n".join(section(name, each) for name, each in sorted(program().items()))


def section(name: str, command: Any) -> str:
    usage = " ".join(["hpogen", name, *map(shown, command.params)])
    parts = [
        f"## `hpogen {name}` {{: #hpogen-{name} }}",
        command.help or "",
        f"```text\n{usage}\n```",
    ]
    if command.params:
        rows = (row(name, parameter) for parameter in command.params)
        parts.append(table(("argument or option", "value", "default", "meaning"), rows))
    return "\n\n".join(parts)


def is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def is_flag(parameter: Any) -> bool:
    return is_option(parameter) and bool(parameter.is_flag)


def shown(parameter: Any) -> str:
    """As a usage line has it; an option in brackets."""
    if not is_option(parameter):
        return value(parameter)
    text = parameter.opts[0] if is_flag(parameter) else f"{parameter.opts[0]} {value(parameter)}"
    return text if parameter.required else f"[{text}]"


def value(parameter: Any) -> str:
    """What stands for the value: `DIR`."""
    number = parameter.type_descriptor.annotation in (int, float)
    return parameter.metavar or ("NUMBER" if number else "TEXT")


def row(command: str, parameter: Any) -> tuple[str, str, str, str]:
    name = parameter.opts[0] if is_option(parameter) else value(parameter)
    default = "" if is_flag(parameter) or parameter.default in NOTHING else str(parameter.default)
    return (
        anchored(name, f"hpogen-{command}.{parameter.opts[0].strip('-')}"),
        f"`{value(parameter)}`" if is_option(parameter) and not is_flag(parameter) else "",
        "required" if parameter.required else default and f"`{default}`",
        parameter.help or "",
    )
