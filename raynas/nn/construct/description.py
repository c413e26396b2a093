"""Reading a description: an object, a text in JSON or YAML, or a file of either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from raynas.core.errors import InvalidArch

EXTENSIONS = (".json", ".yaml", ".yml")


def parsed(description: Any) -> Any:
    """Return what a description holds.

    >>> parsed('[["MB3E6"], null]'), parsed("- [MB3E6]"), parsed({"conv": ["MB3E6"]})
    ([['MB3E6'], None], [['MB3E6']], {'conv': ['MB3E6']})

    Args:
        description: a text of one line that ends in .json, .yaml or .yml is a path; any other text
            is JSON or else YAML.

    Raises:
        InvalidArch: the text is neither, or a path has another extension.
        OSError: the file cannot be read.
    """
    if isinstance(description, Path) or _is_path(description):
        return _read(Path(description))
    return _parsed_text(description, "the text") if isinstance(description, str) else description


def _is_path(description: Any) -> bool:
    return (
        isinstance(description, str)
        and description.lower().endswith(EXTENSIONS)
        and description.isprintable()  # in one line, and no name of a file has a null character
    )


def _read(file: Path) -> Any:
    if file.suffix.lower() not in EXTENSIONS:
        raise InvalidArch(f"expected a file that ends in one of {EXTENSIONS}, got {str(file)!r}")
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {file}") from None
    except UnicodeDecodeError as error:
        raise InvalidArch(f"{file}: expected UTF-8: {error}") from None
    return _parsed_text(text, str(file), json_only=file.suffix.lower() == ".json")


def _parsed_text(text: str, where: str, *, json_only: bool = False) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except InvalidArch as error:
        raise InvalidArch(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:
        if json_only:
            raise InvalidArch(f"{where}: expected JSON: {error}") from None
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidArch(f"{where}: expected JSON or YAML: {error}") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        raise InvalidArch(f"{next(n for n in names if names.count(n) > 1)!r} stands twice")
    return mapping


class _PlainLoader(yaml.SafeLoader):
    """YAML that JSON could hold as well: no aliases, which may grow without bounds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("a description has no aliases (*name)")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.YAMLError(f"a name stands twice among {list(mapping)}")
        return mapping
