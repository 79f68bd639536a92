"""Makes `tests/` importable for the tests that share toy studies."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and hpogen respects that
