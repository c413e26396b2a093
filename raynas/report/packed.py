"""Text packed into a page: compressed, so that plotly.js takes 2 MB in place of 5."""

from __future__ import annotations

import base64
import gzip
from functools import cache

from plotly.offline import get_plotlyjs


def packed(text: str) -> str:
    """Return a text as gzip in base64, which a page's script unpacks; equal texts pack alike."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def unpacked(text: str) -> str:
    """Return what ``packed`` packed."""
    return gzip.decompress(base64.b64decode(text)).decode()


@cache
def packed_plotly() -> str:
    """Return plotly.js, packed."""
    return packed(get_plotlyjs())
