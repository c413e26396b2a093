"""What the shell completes: registered names and folders of runs.

Importing the plug-ins takes seconds, so their files are read, not run.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from raynas.cli.model_completion import complete_model

Completer = Callable[[str], list[str]]
RUN = "run.json"  # which a run's folder holds
RUNS = Path("runs")  # where runs are by default

# registries of each kind of plug-in: variable, package whose files fill it, group of entry points
SOURCES = {
    "algorithms": (
        ("SAMPLERS", "raynas.algorithms", "raynas.samplers"),
        ("ONE_SHOTS", "raynas.algorithms", "raynas.one_shots"),
    ),
    "spaces": (("SPACES", "raynas.search_spaces", "raynas.spaces"),),
    "evaluators": (("EVALUATORS", "raynas.evaluators", "raynas.evaluators"),),
    "data": (("DATA", "raynas.data", "raynas.data"),),
    "tasks": (("TASKS", "raynas.tasks", "raynas.tasks"),),
    "mixed_operators": (("MIXED_OPS", "raynas.gradient.mixed", "raynas.mixed_operators"),),
    "constructors": (("CONSTRUCTORS", "raynas.nn.construct", "raynas.constructors"),),
    "exporters": (("EXPORTERS", "raynas.nn.export", "raynas.exporters"),),
    "trackers": (("TRACKERS", "raynas.report.tracking", "raynas.trackers"),),
}


def completes(kind: str) -> Completer:
    """Return a function that completes registered names of a kind."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names_in_files(kind) if name.startswith(incomplete)]

    return complete


def complete_kind(incomplete: str) -> list[str]:
    """Complete a kind of plug-in; names of operators are made, not written, and are not read."""
    return [kind for kind in sorted((*SOURCES, "operators")) if kind.startswith(incomplete)]


def complete_any(incomplete: str) -> list[str]:
    """Complete a registered name of any kind, or a model's."""
    names = sorted({name for kind in SOURCES for name in names_in_files(kind)})
    return [n for n in names if n.startswith(incomplete)] + complete_model(incomplete)


def complete_space(incomplete: str) -> list[str]:
    """Complete the name of a space, or of a library's model."""
    return completes("spaces")(incomplete) + complete_model(incomplete)


def complete_run(incomplete: str) -> list[str]:
    """Complete a folder of a run; of other folders, what leads to one."""
    typed = Path(incomplete)
    folder, stem = (typed, "") if not incomplete or incomplete.endswith("/") else _split(typed)
    offered = list(_folders(folder, stem))
    if not incomplete:
        offered += [name for name in _folders(RUNS, "") if not name.endswith("/")]
    return sorted(dict.fromkeys(offered))


def names_in_files(kind: str) -> list[str]:
    """Return the names that the plug-ins' files and entry points register, in order."""
    names: set[str] = set()
    for variable, package, group in SOURCES[kind]:
        names |= {point.name for point in entry_points(group=group)}
        for file in _files(package):
            text = file.read_text(encoding="utf-8")
            if f"{variable}.register(" in text:
                names |= set(_registered(ast.parse(text), variable))
    return sorted(names)


def _files(package: str) -> Iterator[Path]:
    """Yield the files of a package; to find it by its full name would import what it lies in."""
    top, *inner = package.split(".")
    spec = find_spec(top)
    for place in (spec and spec.submodule_search_locations) or ():
        yield from Path(place, *inner).glob("*.py")


def _split(typed: Path) -> tuple[Path, str]:
    return typed.parent, typed.name


def _folders(folder: Path, stem: str) -> Iterator[str]:
    """Yield folders of runs as they are, others with the slash behind which one goes on."""
    if not folder.is_dir():
        return
    for child in folder.iterdir():
        if child.name.startswith(stem or "") and not child.name.startswith(".") and child.is_dir():
            yield str(child) if (child / RUN).is_file() else f"{child}/"


def _registered(tree: ast.Module, variable: str) -> Iterator[str]:
    """Yield the names in ``variable.register("name", ...)``, in loops over literals too."""
    loops: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.For):
            loops |= _texts_by_target(node)
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != f"{variable}.register":
            continue
        match node.args:
            case [ast.Constant(value=str(name)), *_]:
                yield name
            case [ast.Name(id=target), *_]:
                yield from loops.get(target, ())


def _texts_by_target(loop: ast.For) -> dict[str, list[str]]:
    """Return the texts that each variable of a loop over a literal takes."""
    if not isinstance(loop.target, ast.Tuple):
        return {}
    try:
        rows = ast.literal_eval(loop.iter)
    except ValueError:
        return {}
    targets = [ast.unparse(target) for target in loop.target.elts]
    columns = zip(*rows, strict=True)
    return {
        name: [value for value in column if isinstance(value, str)]
        for name, column in zip(targets, columns, strict=True)
    }
