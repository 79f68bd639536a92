"""Serves the live page on the loopback address: `hpogen watch`.

It answers GET alone, to pages of this machine alone, with four fixed files, the end of a trial's
log, and server-sent events. Nothing is written anywhere.
"""

from __future__ import annotations

import contextlib
import json
import re
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from hpogen.errors import UserError
from hpogen.report.watch import view
from hpogen.report.watch.followed import Followed
from hpogen.study.read import studies_in

ADDRESS, PORT = "127.0.0.1", 8700
HOSTS = ("127.0.0.1", "localhost", "[::1]")  # others are a foreign page's way in: DNS rebinding
PAUSE_SECONDS = 0.4  # between two looks
BEAT_SECONDS = 15.0  # of silence, after which it is asked whether the browser is still there
PAGE = "watch.html"
ASSETS = {
    PAGE: "text/html",
    "watch.css": "text/css",
    "watch.js": "text/javascript",
    "watch.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

PATH = re.compile(r"(/study/(?P<study>[^/]+))?/(log/(?P<log>\d{1,9})|(?P<name>[^/]*))")
NONE: Mapping[str, str] = {}

Place = Followed | Literal["matrix"]
"""What a page shows."""

Events = Iterator[dict[str, Any] | None]
"""What is sent to one browser, as it comes; None where there is nothing new."""


def watch(directory: Path, port: int | None, tell: Callable[[str], None]) -> None:
    """Serve the page of a study's folder, or of a matrix's, until Ctrl-C; `tell` gets its URL.

    `port` None: 8700, or a free one where that is taken. Raises UserError for a folder without a
    study, and for a port that cannot be used.
    """
    site = Site(directory)
    with _server(port, site) as server:
        tell(f"http://{ADDRESS}:{server.server_address[1]}/")
        server.serve_forever(poll_interval=0.1)


def _server(port: int | None, site: Site) -> Server:
    try:
        return Server((ADDRESS, PORT if port is None else port), site)
    except (OSError, OverflowError) as error:
        if port is not None:
            raise UserError(
                f"--port: {port} cannot be used ({error}): name another, or leave it out for a "
                "free one"
            ) from None
        return Server((ADDRESS, 0), site)


class Site:
    """What is followed: a study, or the studies of a matrix by the names of their folders."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()  # each browser has a thread of its own
        self._studies: dict[str, Followed] = {}
        self._told: dict[Followed, view.Told] = {}
        inner = studies_in(directory)
        self._is_matrix = bool(inner)
        for path in inner or [directory]:
            self._studies[path.name if inner else ""] = Followed(path)
        next(self.events(self.find(None) or "matrix"))  # so that the first browser does not wait

    def find(self, name: str | None) -> Place | None:
        """What the page `/study/NAME/`, or that at the top (None), shows; None: there is none."""
        if name is None and self._is_matrix:
            return "matrix"
        return self._studies.get(unquote(name) if name is not None else "")

    def events(self, place: Place) -> Events:
        return self._of_matrix() if place == "matrix" else self._of_study(place)

    def _of_study(self, study: Followed) -> Events:
        told, starts, sent = self._told.setdefault(study, view.Told()), 0, 0
        state: dict[str, Any] = {}
        while True:
            message: dict[str, Any] = {}
            with self._lock:
                study.look()
                if study.starts != starts:
                    starts, sent = study.starts, 0
                    message["head"] = {**view.head(study), "matrix": self._is_matrix}
                if len(study.order) > sent:
                    message["told"] = told.since(study, sent)
                    sent = len(study.order)
                if (now := view.state(study)) != state:
                    message["state"] = state = now
            yield message or None

    def _of_matrix(self) -> Events:
        before: dict[str, Any] = {}
        while True:
            with self._lock:
                self._look()
                now = view.overview([*self._studies.values()])
            title = {"name": self._directory.absolute().name, **now}
            yield None if title == before else {"matrix": title}
            before = title

    def _look(self) -> None:
        """At all studies, and for those that have been begun since."""
        for path in studies_in(self._directory):
            if path.name not in self._studies:
                with contextlib.suppress(UserError):  # its first line is not whole yet
                    self._studies[path.name] = Followed(path)
        for study in self._studies.values():
            study.look()

    def log(self, place: Place, trial: int) -> str | None:
        """The end of a trial's log; None where there is no such trial."""
        if place == "matrix" or trial >= len(place.history.records):
            return None
        return view.log_of(place, trial) or "this trial has printed nothing\n"


class Server(ThreadingHTTPServer):
    """A thread for each browser, which ends with this process."""

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        self.site = site
        super().__init__(address, Requests)

    def server_bind(self) -> None:
        """Without the look-up of this machine's name, which HTTPServer makes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Requests(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    server_version, sys_version = "hpogen", ""
    timeout = 60.0  # seconds, to ask in

    def do_GET(self) -> None:
        found = PATH.fullmatch(urlsplit(self.path).path)
        if not self._is_ours():
            return self._say(HTTPStatus.FORBIDDEN, "this page is for this machine alone\n")
        place = self.server.site.find(found["study"]) if found else None
        if found is None or place is None:
            return self._say(HTTPStatus.NOT_FOUND, "there is no such page\n")
        name, log = found["name"] or "", found["log"]
        if log is not None:
            return self._log(place, int(log))
        if name == "events":
            return self._events(self.server.site.events(place))
        if name == "" or (name in ASSETS and found["study"] is None):
            return self._send(*asset(name or PAGE))
        return self._say(HTTPStatus.NOT_FOUND, "there is no such page\n")

    def _refuse(self) -> None:
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, "this page only shows: GET alone\n")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def _is_ours(self) -> bool:
        """Whether the browser was sent here by a name of this machine."""
        host = self.headers.get("Host", "")
        return re.sub(r":\d+$", "", host) in HOSTS

    def _log(self, place: Place, trial: int) -> None:
        text = self.server.site.log(place, trial)
        if text is None:
            return self._say(HTTPStatus.NOT_FOUND, "there is no such trial\n")
        self._say(HTTPStatus.OK, text)

    def _events(self, events: Events) -> None:
        """Send what comes until the browser has gone."""
        self._begin(HTTPStatus.OK, "text/event-stream")
        beat = time.monotonic()
        for message in events:
            if message is not None or time.monotonic() > beat + BEAT_SECONDS:
                beat = time.monotonic()
                text = ":" if message is None else f"data: {encoded(message)}"
                self.wfile.write(f"{text}\n\n".encode())
            time.sleep(PAUSE_SECONDS)

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._send(text.encode(), "text/plain", status)

    def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._begin(status, kind, {"Content-Length": str(len(data))})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _begin(self, status: HTTPStatus, kind: str, more: Mapping[str, str] = NONE) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": f"{kind}; charset=utf-8", **HEADERS, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


def encoded(message: Mapping[str, Any]) -> str:
    """As JSON on one line."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False)


@cache
def asset(name: str) -> tuple[bytes, str]:
    """A file of the page and its type."""
    return (Path(__file__).parent / "assets" / name).read_bytes(), ASSETS[name]
