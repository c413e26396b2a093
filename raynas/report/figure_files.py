"""Pictures as files: images through kaleido, pages that open offline, plotly's own JSON."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import plotly.graph_objects as go

from raynas.core.errors import nearest

IMAGES = (".png", ".svg", ".pdf", ".jpg", ".webp")
ENDINGS = (*IMAGES, ".html", ".json")
WIDTH, DENSITY = 900, 2  # pixels; image pixels for each


def write_figure(figure: go.Figure, file: str | Path, name: str) -> None:
    """Write a figure to a file by its ending.

    Args:
        figure: to write.
        file: local path.
        name: of the picture, the title of a page.

    Raises:
        ValueError: another ending.
        FileNotFoundError: there is no such folder.
        RuntimeError: an image, and kaleido or its browser is not there.
    """
    path = checked_figure_file(file)
    if path.suffix == ".json":
        path.write_text(str(figure.to_json()), encoding="utf-8")
    elif path.suffix == ".html":
        from raynas.report.page import figure_page

        path.write_text(figure_page(figure, name), encoding="utf-8")
    else:
        path.write_bytes(image(figure, path.suffix.removeprefix(".")))


def checked_figure_file(file: str | Path) -> Path:
    """Return a path that a figure can be written to, before anything is drawn.

    Raises:
        ValueError: the ending is none of ours.
        FileNotFoundError: there is no such folder.
    """
    path = Path(file)
    if path.suffix not in ENDINGS:
        hint = nearest(path.suffix, ENDINGS)
        raise ValueError(
            f"a picture's file ends in one of {', '.join(ENDINGS)}, got {str(file)!r}; {hint}"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r} to write {path.name} to")
    return path


def image(figure: go.Figure, ending: str) -> bytes:
    """Return a figure as an image.

    Args:
        figure: to draw.
        ending: of its kind, such as ``png``.

    Raises:
        RuntimeError: kaleido or a browser is not there.
    """
    if find_spec("kaleido") is None:
        raise RuntimeError(
            f"a picture as .{ending} needs the package kaleido: pip install 'raynas[png]', or "
            "write .html or .json"
        )
    width = figure.layout.width or max(WIDTH, (figure.layout.meta or {}).get("min_width", 0))
    try:
        return bytes(figure.to_image(format=ending, width=width, scale=DENSITY))
    except Exception as error:  # kaleido has many, none of them public
        text = " ".join(str(error).split())[:300]
        raise RuntimeError(
            f"a picture as .{ending} needs a Chrome or Chromium that kaleido can start "
            f"(BROWSER_PATH names one), or write .html or .json; it said: {text}"
        ) from error
