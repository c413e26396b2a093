"""Local copies of what lies in an object store, for programs that read files.

They are made once as long as nothing changes there, and removed at the end of the process.
"""

from __future__ import annotations

import atexit
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path, PurePosixPath

from pyarrow import fs

from raynas.core.errors import StoreMismatch
from raynas.core.locations import masked
from raynas.core.temporary import temporary_folder
from raynas.storage.file_systems import opened, reaching

WEIGHTS = "model.safetensors"  # of a whole checkpoint, as ``supernet.checkpoint`` names them
_PLACES = re.compile(r"(?:supernet/?)?(?:checkpoint_[^/]+)?")  # below a folder that names one
State = tuple[tuple[str, int | None, int | None], ...]
_COPIES: dict[str, tuple[State, Path]] = {}  # by what is copied; made anew where that has changed


def local_copy(path: str) -> Path:
    """Return a local folder that holds what a folder, or URI, holds."""
    return _copied(path, list)


def local_checkpoint(path: str) -> Path:
    """Return a local folder with the checkpoints that a folder, or URI, is searched for.

    Args:
        path: a checkpoint, a folder of checkpoints, or a run's folder.
    """
    return _copied(path, _of_checkpoints)


def local_file(path: str) -> Path:
    """Return a local file that holds what a file, or URI, holds.

    Raises:
        FileNotFoundError: there is no such file.
    """
    system, root = opened(path)
    if isinstance(system, fs.LocalFileSystem):
        return Path(root)
    with reaching(path):
        info = system.get_file_info(root)
    if info.type != fs.FileType.File:
        raise FileNotFoundError(f"there is no file {masked(path)}")
    folder = _kept(path, system, PurePosixPath(root).parent.as_posix(), [info])
    return folder / str(info.base_name)


def _copied(path: str, chosen: Callable[[list[str]], list[str]]) -> Path:
    """Return a local folder with the files that are chosen among all below a folder."""
    system, root = opened(path)
    if isinstance(system, fs.LocalFileSystem):
        return Path(root)
    with reaching(path):
        there = system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    files = {info.path[len(root) + 1 :]: info for info in there if info.type == fs.FileType.File}
    return _kept(path, system, root, [files[name] for name in chosen(sorted(files))])


def _kept(path: str, system: fs.FileSystem, root: str, files: list[fs.FileInfo]) -> Path:
    """Return the folder of copies, which are made unless they are there.

    Raises:
        StoreMismatch: a name would lie outside of it.
    """
    state = tuple((info.path, info.size, info.mtime_ns) for info in files)
    before = _COPIES.get(path)
    if before is not None and before[0] == state:
        return before[1]
    folder = Path(tempfile.mkdtemp(dir=_scratch(os.getpid())[1]))
    for info in files:
        name = PurePosixPath(info.path[len(root) + 1 :])
        if name.is_absolute() or ".." in name.parts:
            raise StoreMismatch(f"{masked(path)} holds {str(name)!r}, which is no name of a file")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with reaching(path):
            fs.copy_files(info.path, str(folder / name), source_filesystem=system)
    _COPIES[path] = state, folder
    return folder


def forget_copies() -> None:
    """Remove all copies now, in a process that may be killed at its end."""
    if _COPIES:
        _COPIES.clear()
        _scratch(os.getpid())[0].close()
        _scratch.cache_clear()


@cache
def _scratch(pid: int) -> tuple[ExitStack, Path]:
    """Return the folder of this process's copies, which a process that it forks leaves alone."""
    stack = ExitStack()
    folder = stack.enter_context(temporary_folder())
    atexit.register(_close, stack, pid)
    return stack, folder


def _close(stack: ExitStack, pid: int) -> None:
    if os.getpid() == pid:
        stack.close()


def _of_checkpoints(names: list[str]) -> list[str]:
    """Return the files of checkpoints that are whole, of all files below a folder.

    >>> _of_checkpoints(["run.json", "supernet/checkpoint_1/model.safetensors",
    ...     "supernet/checkpoint_1/best/model.safetensors", "retrained/1/model.safetensors"])
    ['supernet/checkpoint_1/model.safetensors', 'supernet/checkpoint_1/best/model.safetensors']
    """
    whole = {name.removesuffix(WEIGHTS).rstrip("/") for name in names if _is_weights(name)}
    whole = {place for place in whole if _PLACES.fullmatch(place)}
    best = {f"{place}/best".lstrip("/") for place in whole}
    return [name for name in names if name.rpartition("/")[0] in whole | best]


def _is_weights(name: str) -> bool:
    return name.rpartition("/")[2] == WEIGHTS
