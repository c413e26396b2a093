"""Names of libraries' models for the shell, read from the libraries' files.

Importing the libraries takes seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from raynas.core.model_names import LIBRARIES

_BUILDER = re.compile(r"^@register_model\b.*\n(?:(?:[ \t#@].*|\))\n)*def (\w+)", re.MULTILINE)
_CLASS = re.compile(
    r'"(?!Auto[A-Z])(?=\w*[a-z])(?=\w*[A-Z])(\w+)(?<!Processor)(?<!Fast)(?<!Pil)(?<!Extractor)"'
)
# by prefix: package, files in it, and what names a model there
FILES = {
    "timm": ("timm", ("models/*.py",), _BUILDER),
    "torchvision": ("torchvision", ("models/*.py", "models/segmentation/*.py"), _BUILDER),
    "hf": (
        "transformers",
        ("models/auto/modeling_auto.py", "models/auto/auto_mappings.py"),
        _CLASS,
    ),
}
WORDS, AT = "COMP_WORDS", "COMP_CWORD"  # of a line in bash, and which of them is completed


def complete_model(incomplete: str) -> list[str]:
    """Complete the name of a library's model, such as ``timm:resnet18``.

    Where nothing is typed yet, prefixes are offered; else names, behind whose common beginning a
    shell sets no space.
    """
    there = [prefix for prefix in LIBRARIES if find_spec(FILES[prefix][0]) is not None]
    if not incomplete:
        return [f"{prefix}:" for prefix in there]
    begun = [p for p in there if f"{p}:".startswith(incomplete) or incomplete.startswith(f"{p}:")]
    names = (f"{prefix}:{name}" for prefix in begun for name in model_names(prefix))
    return [name for name in names if name.startswith(incomplete)]


def model_names(prefix: str) -> list[str]:
    """Return the names of a library's models, in order; none where it is not installed."""
    return sorted(set(_names(*FILES[prefix])))


def _names(package: str, globs: tuple[str, ...], named: re.Pattern[str]) -> Iterator[str]:
    spec = find_spec(package)
    for place in (spec and spec.submodule_search_locations) or ():
        for glob in globs:
            for file in Path(place).glob(glob):
                yield from named.findall(file.read_text(encoding="utf-8"))


def join_words(environment: MutableMapping[str, str]) -> str:
    """Make one word of ``timm:resnet18``, which bash takes for three, in what it asks to complete.

    Args:
        environment: in which bash asks; changed in place.

    Returns:
        What bash has of the word already, and is not to be offered again.
    """
    asked = environment.get(WORDS, "").split()
    match asked[: int(environment.get(AT, 0)) + 1]:
        case [*before, prefix, ":", name]:
            pass
        case [*before, prefix, ":"]:
            name = ""
        case _:
            return ""
    if prefix not in LIBRARIES:
        return ""
    environment[WORDS] = "\n".join([*before, f"{prefix}:{name}"])
    environment[AT] = str(len(before))
    return f"{prefix}:"


@contextmanager
def for_bash(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Let bash complete names with colons in them: of what is printed, it gets what it lacks."""
    if not (typed := join_words(environment)):
        yield
        return
    said = StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            print(line.removeprefix(typed))
