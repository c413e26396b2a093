"""The server of ``raynas ui``: it reads runs, writes nothing, and answers this machine alone."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from raynas.report.packed import packed_plotly
from raynas.report.page import report_page
from raynas.report.pictures.comparison import (
    comparable,
    compared_fronts,
    compared_histories,
)
from raynas.report.pictures.style import NothingToDraw
from raynas.report.run_rows import Runs
from raynas.report.ui_page import ui_page, ui_script
from raynas.results.run_list import RunList
from raynas.results.run_state import is_over

HOST, EVERY_S = "127.0.0.1", 5.0
HTML, JSON, SCRIPT = "text/html; charset=utf-8", "application/json", "text/javascript"
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'"
)
Query = Mapping[str, list[str]]


class UiServer(ThreadingHTTPServer):
    """A server of the runs below a folder.

    Args:
        runs: to show.
        host: a loopback address; there is no password.
        port: 0 takes a free one.
        every_s: seconds after which pages look again.

    Raises:
        ValueError: the address is reached from other machines.
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(
        self, runs: RunList, *, host: str = HOST, port: int = 0, every_s: float = EVERY_S
    ) -> None:
        if host != "localhost" and not _is_loopback(host):
            raise ValueError(
                f"the page has no password: expected a loopback address such as {HOST}, got "
                f"{host!r}; to look from another machine, forward the port (ssh -L)"
            )
        self.runs, self.every_s = runs, every_s
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OSError(
                f"cannot listen on {host}, port {port} ({error}); choose another (--port)"
            ) from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: UiServer
    server_version, sys_version = "raynas", ""

    def do_GET(self) -> None:
        """Answer one of the paths that there are."""
        if not _is_local(self.headers.get("Host", "")):  # a page elsewhere, under a name of its own
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"this page is for this machine")
            return
        parts = urlsplit(self.path)
        try:
            kind, body = _answer(self.server, parts.path, parse_qs(parts.query))
        except (LookupError, ValueError, OSError) as error:  # of a broken run: others are shown
            missing = isinstance(error, LookupError)
            status = HTTPStatus.NOT_FOUND if missing else HTTPStatus.INTERNAL_SERVER_ERROR
            text = str(error.args[0] if error.args else error)
            self._send(status, "text/plain; charset=utf-8", text.encode())
            return
        self._send(HTTPStatus.OK, kind, body)

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        if body[:2] == b"\x1f\x8b":
            self.send_header("Content-Encoding", "gzip")
        else:
            self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of every request."""


def _answer(server: UiServer, path: str, query: Query) -> tuple[str, bytes]:
    """Return kind and body of what a path names.

    Raises:
        LookupError: there is no such page, or no such run.
    """
    names = query.get("run", [])
    if path == "/":
        return HTML, ui_page(server.every_s).encode()
    if path == "/ui.js":
        return SCRIPT, ui_script().encode()
    if path == "/plotly.js":
        return SCRIPT, base64.b64decode(packed_plotly())
    if path == "/api/runs":
        return JSON, runs_answer(server.runs).text().encode()
    if path == "/api/compare":
        return JSON, _comparison(server.runs, names)
    if path == "/report" and len(names) == 1:
        return HTML, _report(server, names[0])
    raise LookupError("there is no such page")


def _comparison(runs: RunList, names: Sequence[str]) -> bytes:
    compared, left_out = comparable({name: runs.result(name).report_data for name in names})
    figures = {}
    for key, draw in (("history", compared_histories), ("front", compared_fronts)):
        try:
            figures[key] = json.loads(str(draw(compared).to_json()))
        except NothingToDraw:
            continue
    note = f"Left out: {'; '.join(left_out)}." if left_out else ""
    return json.dumps({"figures": figures, "note": note}).encode()


def _report(server: UiServer, name: str) -> bytes:
    result = server.runs.result(name)
    goes_on = not is_over(result)
    page = report_page(result.report_data, refresh_s=server.every_s if goes_on else None)
    return page.encode()


def runs_answer(runs: RunList) -> Runs:
    """Return the list of runs as it is told to scripts."""
    return Runs(root=str(runs.root), runs=runs.rows())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_local(header: str) -> bool:
    """Return whether a Host header names this machine, with or without a port."""
    host = urlsplit(f"//{header}").hostname or ""
    return host == "localhost" or _is_loopback(host)
