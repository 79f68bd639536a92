"""A Chromium that tests drive by its DevTools protocol, over a pipe: no port, no other package."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
MOVED = """
import fcntl, os, sys
given = [fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3]]
for place, file in enumerate(given, 3):
    os.dup2(file, place)
os.execv(sys.argv[3], sys.argv[3:])
"""  # Chromium reads from 3 and writes to 4


class Tab:
    """One page. `seen` are the events of the browser, in their order."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self.seen: list[dict[str, Any]] = []

    def open(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": found["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **self._session}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while (found := self._next()).get("id") != number:
            self.seen.append(found)
        if "error" in found:
            raise RuntimeError(f"{method}: {found['error']['message']}")
        return found["result"]

    def _next(self) -> Any:
        while b"\0" not in self._rest:
            if not (data := os.read(self._read, 1 << 20)):
                raise RuntimeError("Chromium has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def size(self, width: int, height: int, dark: bool) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, a promise's when it has come."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", found))
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 30.0) -> Any:
        """The value of an expression as soon as it is true; an error is not, on a page to come."""
        end = time.monotonic() + seconds
        guarded = f"(() => {{ try {{ return {expression} }} catch {{ return false }} }})()"
        while not (value := self.ask(guarded)):
            assert time.monotonic() < end, f"still false: {expression}"
            time.sleep(0.05)
        return value

    def shot(self, path: Path) -> None:
        """A picture of what is in view."""
        data = self.call("Page.captureScreenshot")["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        """Errors of the page and of the browser about it."""
        self.ask("1")  # what has been said before is read
        return [
            json.dumps(event["params"])
            for event in self.seen
            if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
            or (event.get("method") == "Runtime.consoleAPICalled")
        ]

    def requests(self) -> list[str]:
        """The addresses that the page has asked for."""
        sent = (e for e in self.seen if e.get("method") == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]


@contextlib.contextmanager
def chromium(home: Path) -> Iterator[Tab]:
    """A page of a new browser, which ends with the block."""
    (to_read, write), (read, to_write) = os.pipe(), os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", MOVED, str(to_read), str(to_write), CHROMIUM,
         "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
         f"--user-data-dir={home / 'profile'}", "--no-first-run", "about:blank"],
        pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_read)
    os.close(to_write)
    try:
        tab = Tab(write, read)
        tab.open()
        yield tab
        with contextlib.suppress(RuntimeError):
            tab._session = {}
            tab.call("Browser.close")
        process.wait(10)
    finally:
        process.kill()
        process.wait()
        os.close(write)
        os.close(read)
