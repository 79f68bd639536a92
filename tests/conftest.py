"""Makes `tests/` importable for the tests that share toy studies."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
# Under nohup and in a shell's background these are ignored, which hpogen respects.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
