"""The command line; `main` is the program, and imports the commands when it listens to Ctrl-C."""

from __future__ import annotations

import sys

from hpogen.cli.streams import missed, outputs, say
from hpogen.errors import UserError, check_system
from hpogen.plugins import interrupts


def main() -> None:
    """The program `hpogen`."""
    with outputs():
        code = _run()
        if text := missed():
            say(text)
            code = code or 1
    sys.exit(code)


def _run() -> int:
    """The exit code."""
    try:
        check_system()
        with interrupts.interrupts():
            _commands()
    except UserError as error:
        say(str(error))
        code = 2
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        if not interrupts.interrupted():  # a library may make anything of Ctrl-C
            raise
        code = 0
    if not interrupts.interrupted():
        return code
    say("interrupted")
    return 130


def _commands() -> None:
    from hpogen.cli import beginning, completion, launching, looking, results
    from hpogen.cli.app import app

    assert beginning and launching and looking and results  # they register the commands
    if completion.asked():
        completion.complete(app)
    app(prog_name="hpogen")
