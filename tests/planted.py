"""What strangers plant in place of a file: each would run, fill the memory, or lead elsewhere."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch


class Payload:
    """What makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._mark}",)


def a_pickle(mark: Path) -> bytes:
    return pickle.dumps(Payload(mark))


def a_torch_file(mark: Path) -> bytes:
    """Return a ZIP archive with a pickle in it."""
    file = io.BytesIO()
    torch.save({"state": Payload(mark), "metadata": {}, "attributes": {}}, file)
    return file.getvalue()


def a_tag(mark: Path) -> bytes:
    return f"!!python/object/apply:os.system ['touch {mark}']\n".encode()


def a_bomb(mark: Path) -> bytes:
    """Return aliases that stand for a billion values."""
    lines = [f"a0: &a0 [{mark}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines).encode()


def a_depth(_: Path) -> bytes:
    return b"[" * 100_000


Content = Callable[[Path], bytes]
CONTENTS: tuple[Content, ...] = (a_pickle, a_torch_file, a_tag, a_bomb, a_depth)


def zipped(name: str, text: str) -> bytes:
    """Return a ZIP archive of one file, of any name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, text)
    return file.getvalue()


def tarred(name: str, text: str = "", link: str = "") -> bytes:
    """Return a TAR archive of one file of any name, or of a link that leads anywhere."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        if link:
            member.type, member.linkname = tarfile.SYMTYPE, link
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return file.getvalue()
