"""One request to stop that comes twice at once, and a second one later."""

from __future__ import annotations

import os
import signal

import pytest

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
