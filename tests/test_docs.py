"""Every block of code in the documents: Python runs, commands are understood, files are read."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import duckdb
import pytest
import typer
import yaml

import raynas
import raynas.api
from raynas.cli import app, main
from raynas.results.result import Result
from raynas.setup.pipeline import read_pipeline
from raynas.setup.registries import registries
from tests.inline import inline

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
# their code runs in test_readme and test_registry, where more is said of what it gives
ELSEWHERE = {
    "tasks.md": "test_readme",
    "supernets.md": "test_readme",
    "registries.md": "test_registry",
}
SHOWN = {"", "text", "console", "mermaid"}  # besides commands, which are parsed


class Block(NamedTuple):
    """A fenced block: what it is written in, and what it holds."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page, in order, without the indentation of tabs."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [
        Block(language, re.sub(f"^{indent}", "", body, flags=re.MULTILINE))
        for indent, language, body in found
    ]


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the arguments of every raynas command of a block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for part in line.split(" | "):
            words = shlex.split(part, comments=True)
            if words[:1] == ["raynas"]:
                yield words[1:]


def with_language(*languages: str) -> list[str]:
    return [page for page in PAGES if any(b.language in languages for b in blocks(page))]


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, and without Ray: that Ray gives the same is said elsewhere."""
    monkeypatch.chdir(tmp_path)
    for registry in (registry for group in registries().values() for registry in group):
        list(registry)  # loaded, not to be forgotten
        for entries in ("_entries", "_names", "_aliases", "_meanings"):  # what a page adds, goes
            monkeypatch.setattr(registry, entries, dict(vars(registry)[entries]))
    for name in ("search", "train_supernet", "retrain"):
        function = inline(getattr(raynas.api, name))
        monkeypatch.setattr(raynas.api, name, function)
        monkeypatch.setattr(raynas, name, function, raising=False)
    monkeypatch.setattr(Result, "verify", inline(Result.verify))


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    languages = {block.language for page in PAGES for block in blocks(page)}
    assert languages <= SHOWN | {"python", "sh", "sql", "yaml", "toml", "json"}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("page", [p for p in with_language("python", "sh") if p not in ELSEWHERE])
def test_python_and_commands_run(page: str) -> None:
    """``sh`` is what is run as it stands; ``console`` and bare blocks are for longer commands."""
    names: dict[str, Any] = {"__name__": "docs"}
    for at, block in enumerate(blocks(page)):
        if block.language == "python":
            exec(compile(block.text, f"{page}, block {at}", "exec"), names)
        elif block.language == "sh":
            for arguments in commands(block):
                assert main(arguments) == 0, arguments
        elif block.language == "sql":
            answer = duckdb.sql(block.text)
            assert answer is not None
            assert answer.fetchall()


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_understood(page: str) -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, click.Group) or hasattr(command, "get_command")
    for block in blocks(page):
        if block.language in {"", "console", "sh"}:
            for arguments in commands(block):
                parsed(command, arguments)


def parsed(group: Any, arguments: list[str]) -> None:
    """Parse a command's arguments, as the command line does, and do nothing more."""
    if arguments[0].startswith("-"):  # an option of no command acts when it is parsed
        assert arguments[0] in {option for known in group.params for option in known.opts}
        return
    context = group.make_context("raynas", list(arguments), resilient_parsing=False)
    with context:
        name, command, rest = group.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", with_language("yaml", "toml", "json"))
def test_files_are_read(page: str) -> None:
    for block in blocks(page):
        if block.language == "toml":
            assert tomllib.loads(block.text)
        elif block.language == "json":
            for line in block.text.splitlines():
                assert json.loads(line)
        elif block.language == "yaml":
            assert read_pipeline(yaml.safe_load(block.text), sets={}).steps


def test_every_page_is_in_the_contents() -> None:
    contents = (DOCS.parent / "mkdocs.yml").read_text()
    assert set(re.findall(r": (\S+\.md)$", contents, re.MULTILINE)) == set(PAGES)
