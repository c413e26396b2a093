"""The page of benchmarks is true to itself: scripts, their options, and the day of every figure."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "python benchmarks/" in path.read_text(encoding="utf-8")
]
DAY = re.compile(r"\b20\d\d-\d\d-\d\d\b")
TYPES = {"int": int, "float": float}  # a path may be any text


class Parser(argparse.ArgumentParser):
    """Refuses with an exception."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(f"{self.prog}: {message}")


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command of a benchmark, in blocks and between backticks."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for line in [*lines, *re.findall(r"`([^`]+)`", rest)]:
        words = shlex.split(line, comments=True) if "python benchmarks/" in line else []
        if words:
            yield words[words.index("python") + 1 :]


def understood(words: list[str]) -> argparse.Namespace:
    """Parse a command by the options in its script's source, for importing all takes a minute."""
    script = ROOT / words[0]
    parser = Parser(script.name, allow_abbrev=False)
    for call in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
            settings = {pair.arg: pair.value for pair in call.keywords}
            plain: dict[str, Any] = {
                name: ast.literal_eval(settings[name])
                for name in ("nargs", "action", "choices")
                if name in settings and not isinstance(settings[name], ast.Name | ast.Call)
            }
            if isinstance(kind := settings.get("type"), ast.Name) and kind.id in TYPES:
                plain["type"] = TYPES[kind.id]
            if isinstance(required := settings.get("required"), ast.Constant):
                plain["required"] = required.value
            parser.add_argument(*[ast.literal_eval(name) for name in call.args], **plain)
    return parser.parse_args(words[1:])


def undated(text: str) -> list[str]:
    """Return the rows of tables without a day: in the row, or in the section before the table."""
    found = []
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        before, header = "", ""
        for line in section.splitlines():
            if not line.startswith("|"):
                before, header = f"{before}\n{line}", ""
                continue
            header = header or line
            own = "date" in [cell.strip() for cell in header.split("|")]
            is_row = line != header and not set(line) <= set("|-: ")
            if is_row and not DAY.search(line if own else before):
                found.append(line)
    return found


def test_every_benchmark_is_named() -> None:
    scripts = {path.name for path in (ROOT / "benchmarks").glob("[a-z]*.py")}
    assert scripts - set(re.findall(r"\b\w+\.py\b", PAGE)) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_understood(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        understood(words)


def test_every_section_with_a_table_says_its_command() -> None:
    for section in re.split(r"^(?=## )", PAGE, flags=re.MULTILINE):
        if "\n|" in section:
            assert re.search(r"python benchmarks/|make \w+", section), section.splitlines()[0]


def test_every_row_has_its_day() -> None:
    assert undated(PAGE) == []


def test_what_is_wrong_is_seen() -> None:
    (words,) = commands("Run `python benchmarks/samplers.py --repeats\n3 --sheds 20x5`.")
    with pytest.raises(ValueError, match=r"samplers.py: unrecognized arguments: --sheds 20x5"):
        understood(words)
    (words,) = commands("```console\nX=1 python benchmarks/samplers.py --repeats few\n```\n")
    with pytest.raises(ValueError, match=r"argument --repeats: invalid int value: 'few'"):
        understood(words)
    table = "## A, 2026-11-28\n## B\n| a | date |\n|---|---|\n| 1 | 2026-11-28 |\n| 2 | - |\n"
    assert undated(table) == ["| 2 | - |"]
    assert undated("## A\n2026-11-28\n| a |\n|---|\n| 1 |\n## B\n| b |\n|---|\n| 2 |") == ["| 2 |"]
