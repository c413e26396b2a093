"""The bytes of a text file as tokens, in windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from raynas.core.errors import nearest
from raynas.data.holding import LIMIT, Hold, check_hold
from raynas.data.module import DATA, DataModule, Splits
from raynas.data.readers import Loading
from raynas.data.split import MemorySplit, Split
from raynas.data.streamed import StreamedSplit
from raynas.tasks import Task
from raynas.tasks.language_modeling import LanguageModeling
from raynas.tasks.task import TASKS

BYTES = 256  # different tokens
HELD = 9  # bytes of memory that a token takes as input and as target
Window = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@DATA.register("text")
class Text(DataModule):
    """Windows of a file, whose bytes are the tokens: whatever its language, there are 256 of them.

    A window holds ``context`` inputs, and as targets what follows each. Windows do not overlap, and
    the next begins where one ends; what is left at the end is not used. The text is not shuffled:
    the windows to validate come behind those to train, and those to test behind these.

    Args:
        path: of the file.
        context: tokens that a model sees.
        valid: share of the windows to validate.
        test: share of the windows to test; 0 leaves none.
        hold: ``memory`` keeps the tokens, ``stream`` reads the file in every epoch; ``auto`` keeps
            those of splits that take less than 1 GiB so, nine times their part of the file.
        loader_workers: processes that read ahead; two if nothing is said.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is too short, or an option is out of range.
    """

    name = "text"
    at_hand = True
    task: Task = LanguageModeling()

    def __init__(
        self,
        *,
        path: str,
        context: int = 64,
        valid: float = 0.1,
        test: float = 0.0,
        hold: Hold = "auto",
        loader_workers: int | None = None,
    ) -> None:
        check_hold(hold)
        if context < 1 or not (valid > 0 and test >= 0 and valid + test < 1):
            raise ValueError(
                "text: expected context > 0, valid > 0, test >= 0 and valid + test < 1, got "
                f"{context}, {valid} and {test}"
            )
        self.path, self.context, self.valid, self.test = path, context, valid, test
        self.hold: Hold = hold
        self.loader_workers = loader_workers
        _check_file(Path(path))
        self._counts = self._windows_of_splits()
        self.input_shape = (context,)
        self.batch_size = min(128, max(2, self._counts[0] // 30))
        self._splits: Splits | None = None

    @property
    def width(self) -> int:
        """How many tokens there are."""
        return BYTES

    @property
    def signature(self) -> Any:
        """Shape and dtype of one example's inputs."""
        return {"shape": [self.context], "dtype": "int64"}

    def learning(self, task: Task) -> DataModule:
        """Return the data as another task takes them.

        Raises:
            ValueError: it is no task of tokens.
        """
        if task.name in TASKS and not isinstance(task, LanguageModeling):
            raise ValueError(
                f"text: expected the task {LanguageModeling.name!r}, or one of your own, got "
                f"{task.name!r}"
            )
        return super().learning(task)

    def load(self) -> Splits:
        """Return the splits, a byte for a token."""
        if self._splits is None:
            train, valid, test = self._counts
            parts = {"train": (0, train), "valid": (train, valid), "test": (train + valid, test)}
            made = (self._split(name, *part) for name, part in parts.items() if part[1])
            self._splits = Splits(*made)
        return self._splits

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_splits": None}

    def _split(self, name: str, first: int, count: int) -> Split:
        windows = Windows(self.path, self.context, first, count)
        size = HELD * count * self.context
        if self.hold == "memory" or (self.hold == "auto" and size < LIMIT):
            return windows.held()
        return StreamedSplit(windows, name, loading=Loading(self.loader_workers))

    def _windows_of_splits(self) -> tuple[int, int, int]:
        size = Path(self.path).stat().st_size
        count = max(0, size - 1) // self.context
        valid, test = max(2, round(self.valid * count)), round(self.test * count)
        if count - valid - test < 2:
            raise ValueError(
                f"text: {self.path} is too short: its {size} bytes are {count} windows of "
                f"{self.context}, and four at least are needed"
            )
        return count - valid - test, valid, test


class Windows(Dataset[Window]):
    """Windows of a file's bytes, each with what follows every byte of it.

    Args:
        path: of the file.
        context: bytes of a window.
        first: of the windows, from the file's beginning.
        count: of windows.
    """

    def __init__(self, path: str, context: int, first: int, count: int) -> None:
        self.path, self.context, self.first, self.count = path, context, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Window:
        read = self._bytes(self.first + index, 1)
        return read[:-1], read[1:]

    def held(self) -> MemorySplit:
        """Return all of them in memory."""
        read = torch.from_numpy(self._bytes(self.first, self.count))
        windows = read.unfold(0, self.context + 1, self.context)
        return MemorySplit(windows[:, :-1], windows[:, 1:].long())

    def _bytes(self, first: int, count: int) -> NDArray[np.uint8]:
        """Return the bytes of windows, and the one behind them."""
        size, offset = count * self.context + 1, first * self.context
        read: NDArray[np.uint8] = np.fromfile(self.path, np.uint8, size, offset=offset)
        return read


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"text: {path} is a folder; name one file, such as {path / 'text.txt'}")
    if not path.is_file():
        names = [child.name for child in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"text: no file {path}; {nearest(path.name, names)}")
