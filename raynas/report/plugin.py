"""What a registered name is, and which there are, as text of a terminal's width."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Iterator
from itertools import product

from raynas.report.json_objects import Plugin, Space
from raynas.report.trial_tables import number

FAMILY = re.compile(r"(.*?[A-Z])(\d)(E)(\d)([A-Z]*)")
ENDS_HEADER = re.compile(r"\w+:$")
OWN_LINE = re.compile(r"(Differs|Source|Aliases|>>>|\.\.\.|- |\||\$ )")


def plugin_text(plugin: Plugin) -> str:
    """Return what a plug-in is, with its options and how it is used, to be ``reflowed``."""
    lines = [plugin.note, ""] if plugin.note else []
    lines += [f"{plugin.name} ({plugin.kind})", *(["", plugin.doc] if plugin.doc else [])]
    if plugin.aliases:
        named = (f"{alias} ({told})" if told else alias for alias, told in plugin.aliases.items())
        lines += ["", f"Aliases: {', '.join(named)}"]
    if plugin.space is not None:
        lines += ["", *_space_lines(plugin.space)]
    if plugin.options:
        lines += ["", "Defaults:"]
        for option in plugin.options:
            default = "(required)" if option.required else repr(option.default)
            lines.append(f"  {option.name} = {default}")
    if plugin.training:
        lines += ["", "Defaults of its training:"]
        lines += [f"  {name} = {value!r}" for name, value in plugin.training.items()]
    if plugin.python is not None:
        lines += ["", "Example:", f"  >>> {plugin.python}"]
        lines += [] if plugin.command is None else [f"  $ {plugin.command}"]
    if plugin.source is not None:
        lines += ["", f"Source: {plugin.source}"]
    return "\n".join(lines)


def _space_lines(space: Space) -> Iterator[str]:
    size = f"{space.size:,}" if space.size < 10**9 else f"{space.size:.3e}"
    yield f"Choices ({size} architectures):"
    for decision in space.decisions:
        options = ", ".join(map(str, decision["options"]))
        picks = {1: "", None: "any of "}.get(decision["picks"], f"{decision['picks']} of ")
        yield f"  {decision['label']}: {picks}{options}"
    if space.costs is not None:
        yield ""
        yield "Costs, of the architectures with the fewest and the most macs:"
        for name, (low, high) in space.costs.items():
            yield f"  {name}: {number(low, name)} to {number(high, name)}"


def without_arguments(doc: str, known: Collection[str]) -> str:
    r"""Return a docstring whose ``Args:`` block has the entries in ``known`` only.

    >>> print(without_arguments("Does it.\n\nArgs:\n    a: one.\n    b: two.", {"b"}))
    Does it.
    <BLANKLINE>
    Args:
        b: two.
    """
    head, found, rest = doc.partition("Args:\n")
    if not found:
        return doc
    block, gap, tail = rest.partition("\n\n")
    entries = re.split(r"\n(?=    \S)", block)
    kept = [entry for entry in entries if re.split(r"\W", entry.lstrip(), maxsplit=1)[0] in known]
    if not kept:
        return head + tail if tail else head.rstrip()
    return head + found + "\n".join(kept) + gap + tail


def reflowed(text: str, width: int) -> str:
    r"""Return a docstring with its paragraphs and entries wrapped anew, each in its indentation.

    >>> print(reflowed("Some words in\nlines.\n\nArgs:\n    a: one two three four.", 20))
    Some words in lines.
    <BLANKLINE>
    Args:
        a: one two three
            four.

    Args:
        text: cleaned as by ``inspect.getdoc``.
        width: characters of a line.
    """
    units: list[tuple[int, str]] = []
    for line in text.splitlines():
        words, indent = line.strip(), len(line) - len(line.lstrip())
        if units and _goes_on(*units[-1], indent, words):
            units[-1] = (units[-1][0], f"{units[-1][1]} {words}")
        else:
            units.append((indent, words))
    return "\n".join(_wrapped(words, indent, width) for indent, words in units)


def name_list(names: Iterable[str], width: int, indent: int = 2) -> str:
    """Return names in lines, whole families of operators in one word each.

    >>> print(name_list(["MB3E1", "MB3E6", "AVG", "MB5E1", "MB5E6", "FC3E1"], 80))
      AVG, FC3E1, MB{3,5}E{1,6}
    """
    pad = " " * indent
    return textwrap.fill(
        ", ".join(families(names)),
        width,
        initial_indent=pad,
        subsequent_indent=pad,
        break_long_words=False,
        break_on_hyphens=False,
    )


def families(names: Iterable[str]) -> list[str]:
    """Return names in order, those that differ in kernel, expansion and ending as one pattern.

    A family of which a member lacks is listed by its members.
    """
    found: dict[str, list[tuple[str, str, str]]] = {}
    alone = []
    for name in names:
        if match := FAMILY.fullmatch(name):
            stem, kernel, _, expand, ending = match.groups()
            found.setdefault(stem, []).append((kernel, expand, ending))
        else:
            alone.append(name)
    for stem, members in found.items():
        parts = [sorted({*part}) for part in zip(*members, strict=True)]
        if len(members) > 1 and {*product(*parts)} == {*members}:
            kernels, expands, endings = (_braces(part) for part in parts)
            alone.append(f"{stem}{kernels}E{expands}{endings}")
        else:
            alone += [f"{stem}{kernel}E{expand}{ending}" for kernel, expand, ending in members]
    return sorted(alone)


def _braces(part: list[str]) -> str:
    return part[0] if len(part) == 1 else "{" + ",".join(part) + "}"


def _goes_on(indent: int, words: str, next_indent: int, next_words: str) -> bool:
    """Return whether a line belongs to the paragraph or entry before it."""
    if not words or not next_words or ENDS_HEADER.match(words):
        return False
    if OWN_LINE.match(next_words) or (not words[0].isalnum() and OWN_LINE.match(words)):
        return False  # an example or a table stays line by line
    return next_indent > indent if indent else next_indent == 0


def _wrapped(words: str, indent: int, width: int) -> str:
    return textwrap.fill(
        words,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 4 if indent else 0),
        break_long_words=False,
        break_on_hyphens=False,
    )
