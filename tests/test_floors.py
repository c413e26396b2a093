"""Who may import whom: the floors of docs/architecture.md, held by reading every file's AST."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Every room of the house and its floor; `raynas` alone is raynas/__init__.py.
FLOORS = {
    "raynas.core": 0,
    "raynas.storage": 1,
    "raynas.data": 1,
    "raynas.nn": 1,
    "raynas.costs": 1,
    "raynas.supernet": 1,
    "raynas.gradient": 1,
    "raynas.evaluators": 1,
    "raynas.report": 1,
    "raynas.algorithms": 2,
    "raynas.search_spaces": 2,
    "raynas.cluster": 3,
    "raynas": 4,
    "raynas.setup": 4,
    "raynas.results": 4,
    "raynas.api": 4,
    "raynas.costing": 4,
    "raynas.cli": 4,
    "raynas.__main__": 4,
}
TOP_LEVEL = ("algorithms", "search_spaces", "cluster")
FLOOR_0_MAY_USE = {*sys.stdlib_module_names, "numpy", "pydantic"}


def violations(root: Path) -> list[str]:
    """Return one line for every import in the project at ``root`` that breaks a rule."""
    files = project_files(root)
    known = {*FLOORS, *files}
    edges = [
        (path, line, module, settle(name, known))
        for module, path in files.items()
        for line, name in imported_names(path, module)
    ]
    told = [f"{m}: stands on no floor" for m in files if room(m) is None]
    for path, line, module, target in edges:
        if room(module) is not None and (fault := why_not(module, target)):
            told.append(f"{path.relative_to(root)}:{line}: {fault}")
    told += cycles((module, target) for _, _, module, target in edges)
    return list(dict.fromkeys(told))


def project_files(root: Path) -> dict[str, Path]:
    """Map each module's true name to its file; the links inside raynas/ are not followed."""
    folders = [root / "raynas", *(root / name for name in TOP_LEVEL)]
    found = {}
    for path in sorted(p for folder in folders for p in folder.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts if parts[0] == "raynas" else ("raynas", *parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imported_names(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, at any depth, as far as it is spelled out."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(names=names):
                source = absolute(node, package)
                yield from ((node.lineno, f"{source}.{alias.name}") for alias in names)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
                if ast.unparse(func).split(".")[-1] in {"import_module", "__import__"}:
                    yield node.lineno, name


def absolute(node: ast.ImportFrom, package: str) -> str:
    """Return where a ``from`` import looks, with leading dots resolved against ``package``."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def settle(name: str, known: Iterable[str]) -> str:
    """Return the module that a dotted name lies in, or the name itself when it is foreign."""
    parts = name.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((p for p in prefixes if p in known), name)


def room(module: str) -> str | None:
    """Return the room that a module belongs to; only ``raynas`` itself is in room ``raynas``."""
    parts = module.split(".")
    name = ".".join(parts[:2])
    return name if name in FLOORS else None


def plug_in(module: str) -> str:
    """Return the file or folder inside algorithms/ or search_spaces/ that a module belongs to."""
    return ".".join(module.split(".")[:3])


def why_not(module: str, target: str) -> str | None:
    """Return why ``module`` must not import ``target``, or None when it may."""
    here, to = room(module), room(target)
    assert here is not None
    floor = FLOORS[here]
    if to is None:
        return foreign_fault(floor, module, target.split(".")[0])
    if FLOORS[to] > floor:
        return f"floor {floor} ({module}) imports {target} from floor {FLOORS[to]}"
    # the folder's own __init__ is the door to its plug-ins, not one of them
    if floor == FLOORS[to] == 2 and not target.startswith(f"{plug_in(module)}."):
        return None if plug_in(module) == plug_in(target) else f"{module} imports sibling {target}"
    return None


def foreign_fault(floor: int, module: str, package: str) -> str | None:
    """Return why a module on ``floor`` must not use somebody else's package, or None."""
    if package == "ray" and floor != 3:
        return f"{module} imports ray, which only cluster/ may"
    if floor == 0 and package not in FLOOR_0_MAY_USE:
        return f"floor 0 ({module}) imports {package}: only stdlib, numpy and pydantic may be"
    return None


def cycles(edges: Iterable[tuple[str, str]]) -> list[str]:
    """Return the first circle in which the rooms of floor 1 import each other, if any."""
    graph: dict[str, set[str]] = {}
    for here, to in ((room(a), room(b)) for a, b in edges):
        if here and to and here != to and FLOORS[here] == FLOORS[to] == 1:
            graph.setdefault(here, set()).add(to)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"floor 1 goes round in a circle: {' <- '.join(error.args[1])}"]
    return []


def plant(root: Path, sources: Mapping[str, str]) -> Path:
    """Write a small project: each path with its source."""
    for name, source in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


def documented_floors() -> dict[str, int]:
    """Read the floor of every room named in the table of docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| *(\d) *\| *([^|]+)\|", text, flags=re.MULTILINE)
    return {named(path): int(floor) for floor, cell in rows for path in re.findall("`(.+?)`", cell)}


def named(path: str) -> str:
    """Return the module that stands at ``path``, such as raynas.nn for raynas/nn/."""
    dotted = path.rstrip("/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    return dotted if dotted.split(".")[0] == "raynas" else f"raynas.{dotted}"


def test_every_import_of_the_project_goes_down() -> None:
    assert violations(ROOT) == []


def test_the_documented_floors_are_the_tested_ones() -> None:
    assert documented_floors() == FLOORS


def test_every_room_is_built() -> None:
    assert FLOORS.keys() - {room(module) for module in project_files(ROOT)} == set()


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        ({"raynas/core/arch.py": "from raynas.nn import choice"}, "floor 1"),
        ({"raynas/core/arch.py": "def f():\n    import raynas.nn"}, "floor 1"),
        ({"raynas/nn/a.py": "if TYPE_CHECKING:\n    from raynas import search"}, "floor 4"),
        ({"raynas/nn/a.py": "from ..api import search"}, "floor 4"),
        ({"raynas/nn/__init__.py": "from ..api import search"}, "floor 4"),
        ({"raynas/nn/a.py": "importlib.import_module('raynas.cluster.tune')"}, "floor 3"),
        ({"algorithms/a.py": "from raynas.cluster import tune"}, "floor 3"),
        (
            {"algorithms/a.py": "from raynas.algorithms.b import B", "algorithms/b.py": ""},
            "sibling",
        ),
        ({"algorithms/a.py": "from . import b", "algorithms/b.py": ""}, "sibling"),
        ({"algorithms/a.py": "from raynas.algorithms import B"}, "sibling"),
        ({"algorithms/a.py": "import raynas.search_spaces.s"}, "sibling"),
        ({"algorithms/__init__.py": "import raynas.search_spaces.s"}, "sibling"),
        ({"raynas/core/a.py": "import ray"}, "imports ray"),
        ({"raynas/api.py": "from ray import tune"}, "imports ray"),
        ({"algorithms/a.py": "def f():\n    import ray.tune"}, "imports ray"),
        ({"raynas/core/a.py": "import torch"}, "only stdlib"),
        ({"raynas/core/a.py": "from pandas import DataFrame"}, "only stdlib"),
        (
            {"raynas/nn/a.py": "import raynas.data", "raynas/data/b.py": "import raynas.nn"},
            "circle",
        ),
        ({"raynas/attic.py": ""}, "no floor"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, sources: dict[str, str], fault: str) -> None:
    (line,) = violations(plant(tmp_path, sources))
    assert fault in line


@pytest.mark.parametrize(
    "sources",
    [
        {"raynas/core/a.py": "import json, numpy\nfrom pydantic import BaseModel\nfrom . import b"},
        {"raynas/nn/a.py": "import torch\nfrom raynas.core.arch import Arch"},
        {"raynas/costs/a.py": "from raynas import nn", "raynas/nn/b.py": "from . import c"},
        {"algorithms/a.py": "import optuna\nfrom raynas.nn import Mutable"},
        {"algorithms/__init__.py": "from raynas.algorithms.a import A", "algorithms/a.py": ""},
        {"search_spaces/s/net.py": "from . import cell", "search_spaces/s/cell.py": ""},
        {"cluster/tune.py": "import ray\nfrom raynas.algorithms import a\nfrom . import train"},
        {"raynas/api.py": "import raynas\nfrom raynas.cluster import tune\nfrom .result import R"},
    ],
)
def test_a_lawful_import_is_let_through(tmp_path: Path, sources: dict[str, str]) -> None:
    assert violations(plant(tmp_path, sources)) == []


def test_links_inside_the_package_are_not_read_twice(tmp_path: Path) -> None:
    plant(tmp_path, {"raynas/core/a.py": "", "algorithms/a.py": "import ray"})
    (tmp_path / "raynas" / "algorithms").symlink_to(Path("..", "algorithms"))
    assert len(violations(tmp_path)) == 1
