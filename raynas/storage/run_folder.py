"""A run's folder: its configuration, its best architecture, and where its parts lie."""

from __future__ import annotations

import itertools
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pyarrow import fs

from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.errors import StoreMismatch
from raynas.core.file_names import check_inside, file_name
from raynas.core.locations import is_uri, masked, under
from raynas.core.train_settings import TrainSettings
from raynas.storage.file_systems import OBJECT_STORES, clean, is_misspelt_uri, opened, reaching
from raynas.storage.local_copies import local_checkpoint
from raynas.storage.local_copies import local_copy as local_copy
from raynas.storage.unwritable import writing

CONFIG, BEST, SUPERNET = "run.json", "best.json", "supernet"
LATENCIES = ("latency_cpu.json", "latency_gpu.json", "latency_table.json")
_LEFT = re.compile(r"\..+\.(tmp|old)")  # names of ours that no whole file or folder has


def absolute(out: str) -> str:
    """Return a local folder as an absolute path; a URI stays as it is, but without its keys.

    Raises:
        ValueError: no file system has URIs like this one.
    """
    if not is_uri(out) and not is_misspelt_uri(out):
        return str(Path(out).expanduser().resolve())
    uri = clean(out)
    return opened(uri)[1] if uri.startswith("file://") else uri


def without_keys(value: Any) -> Any:
    """Return plain values without the keys and passwords of URIs, which this process remembers."""
    if isinstance(value, dict):
        return {name: without_keys(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_keys(inner) for inner in value]
    if not isinstance(value, str) or masked(value) == value:
        return value
    try:
        return masked(clean(value))
    except ValueError:  # a URI of a server, such as a tracker's, or a text around one
        return masked(value)


def fresh(stem: str) -> str:
    """Make the folder ``runs/<stem>-<n>`` of the first number that is free, and return its path.

    Of several processes that ask at once, each gets a folder of its own.
    """
    for number in itertools.count(1):
        folder = Path("runs", f"{file_name(stem)}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return absolute(str(folder))
    raise AssertionError("itertools.count ends")  # for the type checker


class Folder:
    """A local folder or a ``pyarrow.fs`` URI.

    Args:
        path: of the folder, which need not exist.
    """

    def __init__(self, path: str) -> None:
        self.path = absolute(str(path))
        self._fs, self._root = opened(self.path)
        self._made = False

    def has(self, name: str) -> bool:
        """Return whether a file or folder of this name is there."""
        with reaching(self.path):
            info = self._fs.get_file_info(f"{self._root}/{name}")
        return bool(info.type != fs.FileType.NotFound)

    def read(self, name: str) -> str:
        """Return a file's text."""
        with reaching(self.path), self._fs.open_input_stream(f"{self._root}/{name}") as file:
            return bytes(file.read()).decode()

    def write(self, name: str, text: str) -> None:
        """Write a file whole.

        Raises:
            OSError: the folder cannot be made, or written to.
        """
        self._make()
        target, written = f"{self._root}/{name}", self._written(name)
        with reaching(self.path), self._writing(target, written):
            with self._fs.open_output_stream(written) as file:
                file.write(text.encode())
            self._name(written, target)

    @property
    def appends(self) -> bool:
        """Whether it is local, where files can be added to and renamed at once."""
        return isinstance(self._fs, fs.LocalFileSystem)

    def append(self, name: str, text: str) -> None:
        """Add text at the end of a file, which need not exist; only where ``appends`` says so.

        Raises:
            OSError: the folder cannot be made, or written to.
        """
        check_inside(name)
        self._make()
        target = f"{self._root}/{name}"
        if Path(target).is_symlink():
            raise OSError(f"{target} is a link, through which nothing is written (out=)")
        with writing(target), self._fs.open_append_stream(target, compression=None) as file:
            file.write(text.encode())

    def _writing(self, target: str, written: str) -> AbstractContextManager[None]:
        """Say why something cannot be written, and remove what there is of it, which takes room."""
        place = os.path.join(self._root, written) if self.appends else None
        return writing(target, unfinished=place)

    @property
    def _puts_whole(self) -> bool:
        return self._fs.type_name in OBJECT_STORES

    def _written(self, name: str) -> str:
        """Return where a file is written before it has its name; object stores put it whole."""
        check_inside(name)
        if self._puts_whole:
            return f"{self._root}/{name}"
        written = Path(self._root, f".{name}.tmp")
        if self.appends and written.is_symlink():  # planted: it would be written through
            written.unlink()
        return str(written)

    def _name(self, written: str, target: str) -> None:
        if self.appends:
            Path(written).replace(target)
        elif written != target:
            self._fs.move(written, target)

    def _make(self) -> None:
        """Make the folder; object stores have none, but a file of its name is not one either."""
        if self._made and self._puts_whole:
            return
        try:
            if self._puts_whole:
                self._check_no_file()
            else:
                self._fs.create_dir(self._root, recursive=True)
        except OSError as error:
            text = " ".join(str(error).split())
            if "(out=)" in text:
                raise
            if self._fs.get_file_info(self._root).type == fs.FileType.File:
                text = "it is a file"
            raise OSError(f"the folder {self.path} cannot be written to (out=): {text}") from error
        self._made = True

    def _check_no_file(self) -> None:
        with reaching(self.path):
            kind = self._fs.get_file_info(self._root).type
        if kind == fs.FileType.File:
            raise NotADirectoryError(
                f"{self.path} is a file (out=); expected the URI of a folder, which need not exist"
            )

    def names(self) -> list[str]:
        """Return what files and folders there are, in no order."""
        return [info.base_name for info in self._listed()]

    def entries(self) -> dict[str, bool]:
        """Return what there is by name, and whether it is a folder."""
        return {info.base_name: info.type == fs.FileType.Directory for info in self._listed()}

    def changed(self) -> list[tuple[str, int, int]]:
        """Return name, time of the last change in nanoseconds, and size of all files."""
        files = (info for info in self._listed() if info.type == fs.FileType.File)
        return sorted((info.base_name, info.mtime_ns or 0, info.size or 0) for info in files)

    def _listed(self) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self._root, allow_not_found=True)
        with reaching(self.path):
            return list(self._fs.get_file_info(selector))

    def put(self, source: Path, name: str, *, last: str) -> None:
        """Copy a local folder of files here, in place of what is there.

        It has its name only once it is whole; in an object store its file ``last``.
        """
        check_inside(name)
        self._make()
        written = f".{name}.tmp" if self.appends else name
        self._delete(written)
        self._make_inside(written)
        for file in sorted(source.iterdir(), key=lambda file: file.name == last):
            inside = f"{written}/{file.name}"
            if file.is_dir():
                self._make_inside(inside)
            target = f"{self._root}/{inside}"
            with reaching(self.path), self._writing(f"{self._root}/{name}", written):
                fs.copy_files(str(file), target, destination_filesystem=self._fs)
        if self.appends:
            self.remove(name)
            Path(self._root, written).rename(Path(self._root, name))

    def _make_inside(self, name: str) -> None:
        if not self._puts_whole:
            self._fs.create_dir(f"{self._root}/{name}", recursive=True)

    def put_file(self, source: Path, name: str) -> None:
        """Copy a local file here; it has its name only once it is whole."""
        self._make()
        target, written = f"{self._root}/{name}", self._written(name)
        with reaching(self.path), self._writing(target, written):
            fs.copy_files(str(source), written, destination_filesystem=self._fs)
            self._name(written, target)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder and what is in it; it may be missing.

        A local folder is gone at once: a process may be killed before all is deleted.
        """
        check_inside(name)
        path, hidden = f"{self._root}/{name}", f".{name}.old"
        if self.appends and self._fs.get_file_info(path).type == fs.FileType.Directory:
            self._delete(hidden)
            Path(path).rename(f"{self._root}/{hidden}")
            name = hidden
        self._delete(name)

    def sweep(self) -> None:
        """Remove what killed processes have left half written or half removed."""
        for name in self.names():
            if _LEFT.fullmatch(name):
                self._delete(name)

    def _delete(self, name: str) -> None:
        path = f"{self._root}/{name}"
        with reaching(self.path):
            kind = self._fs.get_file_info(path).type
            if kind == fs.FileType.Directory:
                self._fs.delete_dir(path)
            elif kind == fs.FileType.File:
                self._fs.delete_file(path)

    def read_config(self) -> SearchConfig:
        """Return the run's configuration.

        Raises:
            FileNotFoundError: the folder holds no run.
        """
        if not self.has(CONFIG):
            raise FileNotFoundError(f"{self.path} holds no run: {self._why_none()}")
        try:
            return SearchConfig.from_json(self.read(CONFIG))
        except ValueError as error:
            raise StoreMismatch(
                f"{under(self.path, CONFIG)} is not a run's configuration: {error}"
            ) from error

    def _why_none(self) -> str:
        with reaching(self.path):
            kind = self._fs.get_file_info(self._root).type
        if kind == fs.FileType.File:
            return "it is a file, and a run is a folder"
        return "there is no such folder" if kind == fs.FileType.NotFound else f"it has no {CONFIG}"

    def begin(self, config: SearchConfig, resume: bool) -> None:
        """Claim the folder for a run.

        Raises:
            FileExistsError: another run is in it and ``resume`` is off.
            StoreMismatch: the run in it has another space, data, evaluator, supernet, objective,
                source of latencies or seed, or the same algorithm with other options.
        """
        if self.has(CONFIG) and (self.has("trials") or self.has("history")):
            before = self.read_config()
            if not resume:
                raise FileExistsError(
                    f"{self.path} holds another run ({before.algo.name} on {before.space.name}): "
                    "resume it (resume=True, --resume) or choose another folder (out=, --out)"
                )
            self._check_same(before, config)
        else:
            self._forget_latencies()
        self.write(CONFIG, config.to_json())

    def _forget_latencies(self) -> None:
        """Remove the tables of a run that ended before it had measured anything else."""
        for name in LATENCIES:
            self.remove(name)

    def _check_same(self, before: SearchConfig, config: SearchConfig) -> None:
        same = ["space", "data", "evaluator", "supernet", "objectives", "latency", "seed"]
        if before.algo.name == config.algo.name:
            same.append("algo")  # another algorithm may go on; the same one with other options not
        digests = before.space_digest, config.space_digest
        if before.space == config.space and None not in digests and digests[0] != digests[1]:
            raise StoreMismatch(
                f"{self.path} was run with another {config.space.name}: choices or shapes of "
                "weights differ; resume with the same, or choose another folder"
            )
        if before.task is not None:  # releases that knew classification alone wrote none
            same.append("task")
        elif config.task is not None and not _plain_classification(config.task):
            raise StoreMismatch(
                f"{self.path} was run with task classification, not {_shown(config.task)}; resume "
                "with the same, or choose another folder"
            )
        for name in same:
            old, new = _differing(getattr(before, name), getattr(config, name))
            if old != new and name == "latency" and old is None:
                raise StoreMismatch(
                    f"{self.path} was run without latencies, which are asked for now; search its "
                    "supernet in another folder (supernet=, --supernet)"
                )
            if old != new:
                raise StoreMismatch(
                    f"{self.path} was run with {name} {_shown(old)}, not {_shown(new)}; "
                    "resume with the same, or choose another folder"
                )

    def supernet(self, spec: ComponentSpec, name: str = SUPERNET) -> Path:
        """Return where a supernet of this run lies, or a local copy of it."""
        return local_checkpoint(str(spec.options.get("path") or under(self.path, name)))


def _plain_classification(task: ComponentSpec) -> bool:
    """Return whether a task is the one that releases without tasks had."""
    return task.name == "classification" and task.options.keys() <= {"objective"}


def _differing(old: object, new: object) -> tuple[object, object]:
    """Return both without the options that agree; those of later releases had their defaults."""
    if not (
        isinstance(old, ComponentSpec) and isinstance(new, ComponentSpec) and old.name == new.name
    ):
        return old, new
    as_object = {"arguments": {"0": {"known_as": f"a {new.name.rpartition(':')[2]}"}}}
    if not old.options and new.options == as_object:
        return old, old  # older runs wrote an object that is called as its class
    before = TrainSettings().model_dump() | old.options
    keys = [k for k, v in new.options.items() if k not in before or before[k] != v]
    keys += [key for key in old.options if key not in new.options]
    pair = before, new.options
    first, second = ({key: one[key] for key in keys if key in one} for one in pair)
    return ComponentSpec(name=old.name, options=first), ComponentSpec(name=new.name, options=second)


def _shown(value: object) -> str:
    return (
        value.name + (f" {value.options}" if value.options else "")
        if isinstance(value, ComponentSpec)
        else repr(value)
    )
