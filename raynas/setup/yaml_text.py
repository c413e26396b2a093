"""YAML as people write it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

LARGEST = 100_000  # values, each counted as often as aliases repeat it
TOO_LARGE = f"aliases repeat values more than {LARGEST:,} times"
MERGED = "tag:yaml.org,2002:merge"  # <<: *name


class _Loader(yaml.SafeLoader):
    """Reads plain values only, and 3e-4 as a number, which PyYAML takes for a text."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _size(node, {}, set())
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)(?:[eE][-+]?[0-9]+)$"),
    list("-+0123456789."),
)


def read_yaml(text: str) -> Any:
    """Return what a text in YAML holds.

    Raises:
        ValueError: it is none, holds tags of anything but plain values, says a key twice, nests
            without end, or repeats so much by aliases that nobody could hold it.
    """
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: nothing is executed
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(_told(error)) from None


def _told(error: yaml.YAMLError) -> str:
    """Return what is wrong and where, without the lines of text around it."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    context = f"{error.context}: " if error.context else ""
    return f"{context}{error.problem}, line {mark.line + 1}, column {mark.column + 1}"


def read_yaml_file(given: str | Path, what: str) -> Any:
    """Return what a file in YAML holds.

    Args:
        given: path of the file.
        what: it should be, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        ValueError: it is empty or no YAML.
    """
    path = Path(given)
    if path.is_dir():
        raise IsADirectoryError(f"{given} is a folder: name the {what} in it")
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} {given}")
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: this is no configuration in YAML: {error}") from None
    if tree is None:
        raise ValueError(f"{path}: the file is empty")
    return tree


def _size(node: Any, known: dict[int, int], above: set[int]) -> int:
    """Return how many values a node stands for, and refuse what no configuration has.

    Args:
        node: of a composed document, in which an alias is the very node that it names.
        known: sizes by ``id``, so that each node is looked at once.
        above: the nodes that this one is part of.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise yaml.YAMLError("an alias stands within what it repeats")
    if id(node) not in known:
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            inner = [part for pair in node.value for part in pair]
        else:
            inner = node.value
        known[id(node)] = 1 + sum(_size(part, known, above | {id(node)}) for part in inner)
        if known[id(node)] > LARGEST:
            raise yaml.YAMLError(TOO_LARGE)
    return known[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == MERGED:
            continue
        if (key.tag, key.value) in seen:
            line = key.start_mark.line + 1
            raise yaml.YAMLError(f"the key {key.value!r} stands twice (line {line})")
        seen.add((key.tag, key.value))
