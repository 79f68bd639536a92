"""Makes `tests/` importable for the tests that share toy studies."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpogen import plugins

sys.path.insert(0, str(Path(__file__).parent))
# Under nohup and in a shell's background these are ignored, which hpogen respects.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_scope_stays_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves the plug-ins of its study in sight is named, and hinders no other."""
    yield
    if left := plugins.in_scope():
        plugins.binding._scope.set(())
        warnings.warn(f"{request.node.nodeid} left {left} in scope", stacklevel=1)
