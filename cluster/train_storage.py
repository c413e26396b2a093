"""Where Ray Train keeps what it keeps: a folder, or the file system of a URI as raynas opens it."""

from __future__ import annotations

from typing import Any

from raynas.core.locations import is_uri
from raynas.storage.file_systems import opened


def storage_of(path: str) -> dict[str, Any]:
    """Return the arguments of ``ray.train.RunConfig`` that name a folder or URI.

    Ray opens no URI by itself: it knows neither our timeouts nor the keys that this process
    remembers.
    """
    if not is_uri(path):
        return {"storage_path": path}
    system, root = opened(path)
    return {"storage_path": root, "storage_filesystem": system}
