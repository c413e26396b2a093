"""A real S3 server (moto's) in a process of its own, on loopback, with a log of its requests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from pyarrow import fs

BUCKET = "runs"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "a-Secret"}
LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/1\.\d" (?P<status>\d+)')
STARTS_S = 60.0


class Request(NamedTuple):
    """What the server was asked, and what it answered."""

    method: str
    path: str
    status: int

    @property
    def kind(self) -> str:
        """GET, PUT, HEAD, POST, DELETE, or LIST."""
        return "LIST" if self.method == "GET" and "list-type=2" in self.path else self.method


class Server:
    """A server that runs.

    Args:
        port: of it.
        log: file of its log.
        process: that it is.
    """

    def __init__(self, port: int, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.endpoint, self._log, self._process = f"http://127.0.0.1:{port}", log, process

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it answer nobody meanwhile."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def uri(self, path: str, bucket: str = BUCKET, keys: str = "") -> str:
        """Return the URI of a folder there, with all that it takes to reach it."""
        host = self.endpoint.removeprefix("http://")
        return f"s3://{keys}{bucket}/{path}?endpoint_override={host}&scheme=http"

    @property
    def files(self) -> fs.FileSystem:
        """The server's files, as a client sees them that is not ours."""
        key, secret = KEYS.values()
        return fs.S3FileSystem(
            access_key=key, secret_key=secret, endpoint_override=self.endpoint, region="us-east-1"
        )

    def names(self, path: str) -> list[str]:
        """Return the paths of all files below a folder."""
        root = f"{BUCKET}/{path}"
        found = self.files.get_file_info(fs.FileSelector(root, recursive=True))
        return sorted(i.path.removeprefix(f"{root}/") for i in found if i.type == fs.FileType.File)

    def text(self, path: str) -> str:
        """Return what a file holds."""
        with self.files.open_input_stream(f"{BUCKET}/{path}") as file:
            return bytes(file.read()).decode(errors="replace")

    def requests(self, about: str = "") -> list[Request]:
        """Return what was asked so far, of paths that hold a text."""
        found = LINE.finditer(self._log.read_text(errors="replace"))
        asked = (Request(m["method"], unquote(m["path"]), int(m["status"])) for m in found)
        return [request for request in asked if about in request.path]

    def counts(self, about: str = "") -> Counter[str]:
        """Return how often what was asked, of paths that hold a text."""
        return Counter(request.kind for request in self.requests(about))


@contextmanager
def serving(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a server with an empty bucket.

    Args:
        folder: of its log.
        environment: of its process, besides this one's.
    """
    log = folder / "server.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, **(environment or {})}
        )
    try:
        server = Server(_port(process, log), log, process)
        _make_bucket(server)
        yield server
    finally:
        process.kill()
        process.wait()


def _make_bucket(server: Server) -> None:
    key, secret = KEYS.values()
    fs.S3FileSystem(
        access_key=key,
        secret_key=secret,
        endpoint_override=server.endpoint,
        region="us-east-1",
        allow_bucket_creation=True,
    ).create_dir(BUCKET)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    until_s = time.monotonic() + STARTS_S
    while time.monotonic() < until_s and process.poll() is None:
        if found := re.search(r"Running on http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise AssertionError(f"no server: {log.read_text()}")
