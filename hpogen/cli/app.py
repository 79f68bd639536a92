"""The program `hpogen`: its options and exit codes; the other modules here hold the commands.

They parse what was typed, call, print, and choose the exit code; there is no logic in them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from hpogen.cli.streams import missed, say
from hpogen.errors import CannotGoOn, Several, UserError, quoted
from hpogen.plugins.guest import Raised, described, place_of
from hpogen.report.text import count

if TYPE_CHECKING:
    from hpogen.running.drive import End

P = ParamSpec("P")
T = TypeVar("T")

FINISHED, STOPPED_ITSELF, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
MISTAKES = 5  # of a YAML that are listed
CODES: dict[End, int] = {
    "finished": FINISHED,
    "time": FINISHED,
    "errors": STOPPED_ITSELF,
    "lost": STOPPED_ITSELF,
    "broken": STOPPED_ITSELF,
    "cluster": STOPPED_ITSELF,
    "interrupted": INTERRUPTED,
}

app = typer.Typer(
    help="Search the hyper-parameters of a deep network for what generalizes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="the study")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="the study's folder")]
Target = Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="default: runs/NAME")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda:K", help="where to train")]
For = Annotated[str, typer.Option("--for", metavar="6h", help="stop after this time")]
Workers = Annotated[
    int | None, typer.Option(metavar="N", help="trials at a time; default 1, with --ray all it has")
]
Ray = Annotated[
    str, typer.Option(metavar="local|auto|HOST:PORT", help="a new cluster here, or a running one")
]
Cpus = Annotated[
    int | None, typer.Option("--cpus-per-trial", metavar="N", help="default: task.threads")
]
Gpus = Annotated[
    float | None, typer.Option("--gpus-per-trial", metavar="F", help="0.25: four trials on a GPU")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="explain no words")]
All = Annotated[bool, typer.Option("--all", help="list all mistakes of the YAML, not five")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="change the YAML")]


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Register a command. What the user did wrong is one line and exit code 2.

    Mistakes of a YAML are a line each, five at most where the command's `all_mistakes` is false.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except typer.Exit:  # what it has trained counts, whoever reads of it
            _tell(missed())
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Several as error:
            _tell(*_listed(error.lines, None if kwargs.get("all_mistakes", True) else MISTAKES))
            raise typer.Exit(WRONG_INPUT) from None
        except Exception as error:
            text, code = _told(error)
            _tell(text)
            raise typer.Exit(code) from None
        if _tell(missed()):
            raise typer.Exit(STOPPED_ITSELF)

    app.command(name=function.__name__.rstrip("_"))(guarded)
    return guarded


def _tell(*texts: str) -> bool:
    for text in filter(None, texts):
        say(text)
    return any(texts)


def _listed(mistakes: Sequence[str], most: int | None) -> list[str]:
    """The first of them, and how many more there are."""
    left = len(mistakes[most:]) if most else 0
    more = f"(and {count(left, 'more mistake')}: --all lists them)" if left else ""
    return [*mistakes[:most], more]


def _told(error: Exception) -> tuple[str, int]:
    """What is said of an error, and the exit code. Raises what is hpogen's own fault."""
    if isinstance(error, UserError):
        return str(error), STOPPED_ITSELF if isinstance(error, CannotGoOn) else WRONG_INPUT
    if (place := place_of(error)) is not None or isinstance(error, Raised):
        return f"{place or 'a plug-in'}: {described(error)}", WRONG_INPUT
    from hpogen.tasks.base import is_out_of_memory

    if is_out_of_memory(error):
        return f"there is not enough memory: {described(error)}", STOPPED_ITSELF
    if isinstance(error, OverflowError):
        return f"a number is too large: {described(error)}", WRONG_INPUT
    raise error


def numbers(option: str, text: str, kind: Callable[[str], T]) -> list[T]:
    """The numbers of an option, between commas. Raises UserError."""
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(
            f"{option}: got {quoted(text)}, expected numbers with commas between"
        ) from None


def exit_code(ends: Iterable[End]) -> int:
    return max(CODES[end] for end in ends)


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _version(value: bool) -> None:
    if value:
        from hpogen.record.provenance import version as installed

        print(f"hpogen {installed('hpogen')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print it, and exit")
    ] = False,
) -> None: ...
