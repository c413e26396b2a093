"""What the site says that is read from the code: the page of algorithms."""

from __future__ import annotations

import inspect
import re
from functools import partial
from pathlib import Path
from typing import Any

import raynas
from raynas.core.sampler import SAMPLERS
from raynas.supernet.protocol import ONE_SHOTS

MARK = "<!-- algorithms -->"
ROOT = Path(__file__).parent.parent


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the algorithms where a page asks for them."""
    return markdown.replace(MARK, algorithms()) if MARK in markdown else markdown


def algorithms() -> str:
    """Return a table of all algorithms, and what each is."""
    entries = [("sampler", name) for name in SAMPLERS] + [("one-shot", name) for name in ONE_SHOTS]
    rows = ["| name | kind | source | file |", "|---|---|---|---|"]
    sections = []
    for kind, name in sorted(entries, key=lambda entry: entry[1]):
        source, file = origin(name)
        rows.append(f"| [`{name}`](#{name}) | {kind} | {source} | `{file}` |")
        text = raynas.describe(name)
        sections.append(f"## {name}\n\n```text\n{text}\n```")
    return "\n".join(rows) + "\n\n" + "\n\n".join(sections)


def origin(name: str) -> tuple[str, str]:
    """Return the first sentence of an algorithm's module, and its file in the repository."""
    builder: Any = SAMPLERS[name] if name in SAMPLERS else ONE_SHOTS[name]
    module = inspect.getmodule(builder.func if isinstance(builder, partial) else builder)
    assert module is not None
    assert module.__file__ is not None
    first = re.split(r"\n\n", inspect.getdoc(module) or "")[0].replace("\n", " ").replace("|", "/")
    return first.rstrip("."), str(Path(module.__file__).resolve().relative_to(ROOT))
