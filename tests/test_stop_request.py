"""One request to stop that comes twice at once, and a second one later."""

from __future__ import annotations

import os
import signal

import pytest
from test_before import call

from hpogen.running import signals
from hpogen.running.signals import StopRequest


def test_a_signal_that_comes_by_two_ways_is_one_request() -> None:
    with StopRequest() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested


def test_a_later_signal_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SAME_SECONDS", -1.0)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_next_command_was_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is ignored in a shell's background, where many a suite of tests is run."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        test_a_later_signal_insists(monkeypatch)
        code, out, _ = call("list", "searchers")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 0 and "cmaes" in out
