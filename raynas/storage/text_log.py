"""A text file that grows, in a local folder or an object store."""

from __future__ import annotations

import time

from raynas.storage.run_folder import Folder

REWRITE_S = 10.0  # between writes of a whole file, where none can be added to


class TextLog:
    """Adds text to a file; what an earlier run has left in it stays.

    A local file is written at once. An object store takes files whole: there the file is written
    every ten seconds at most, less often if that takes long, and when it is flushed.

    Args:
        folder: of the file, which need not exist.
        name: of the file.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self._name = folder, name
        whole = not folder.appends and folder.has(name)
        self._text = [folder.read(name)] if whole else []
        self._written, self._due_s = len(self._text), time.monotonic() + REWRITE_S

    def add(self, text: str) -> None:
        """Add text.

        Raises:
            OSError: nothing can be written.
        """
        if self._folder.appends:
            self._folder.append(self._name, text)
            return
        self._text.append(text)
        if time.monotonic() >= self._due_s:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written yet.

        Raises:
            OSError: nothing can be written.
        """
        if self._written == len(self._text):
            return
        began_s = time.monotonic()
        self._folder.write(self._name, "".join(self._text))
        self._written = len(self._text)
        now_s = time.monotonic()
        self._due_s = now_s + max(REWRITE_S, 20 * (now_s - began_s))
