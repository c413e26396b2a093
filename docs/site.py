"""What the site says that is read from the code, and how its search runs without a network."""

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
# Material's pages in files load a worker for their search from the network
WORKER = re.compile(r'<script src="?https://[^>"]+/iframe-worker/shim"?></script>')


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the algorithms where a page asks for them."""
    return markdown.replace(MARK, algorithms()) if MARK in markdown else markdown


def on_post_page(output: str, **_: Any) -> str:
    """Let search take our worker for pages in files, in place of one from the network.

    Raises:
        RuntimeError: Material does it in another way now.
    """
    code = (ROOT / "docs" / "offline_worker.js").read_text(encoding="utf-8")
    page, count = WORKER.subn(lambda _: f"<script>\n{code}</script>", output)
    if not count and "search" in output:
        raise RuntimeError("no worker is loaded for pages in files: look at Material's search")
    return page


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
    return first.rstrip("."), f"algorithms/{Path(module.__file__).name}"
