"""Who may import whom: the floors of docs/architecture.md, held by reading every file's AST."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.house import (
    GOALS,
    PACKAGES,
    ROOT,
    House,
    arrows_up,
    circles,
    graph_of,
    project_files,
    read_house,
    settle,
)

# Every room of the house and its floor; `raynas` alone is raynas/__init__.py.
FLOORS = {
    "raynas.core": 0,
    "raynas.storage": 1,
    "raynas.data": 1,
    "raynas.tasks": 1,
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
    "raynas.cli": 4,
    "raynas.nni": 4,
    "raynas.registry": 4,
    "raynas.__main__": 4,
}
INSTALLED = ("raynas", *PACKAGES)
FLOOR_0_MAY_USE = {*sys.stdlib_module_names, "numpy", "pydantic"}


def violations(root: Path) -> list[str]:
    """Return one line for every import in the project at ``root`` that breaks a rule."""
    house = read_house(root, INSTALLED)
    told = [f"{module}: stands on no floor" for module in house.files if room(module) is None]
    for entry in house.imports:
        target = settle(entry.target, {*FLOORS, *house.files})
        if room(entry.module) is not None and (fault := why_not(entry.module, target)):
            told.append(f"{house.files[entry.module]}:{entry.line}: {fault}")
    return list(dict.fromkeys([*told, *rounds(house)]))


def rounds(house: House) -> Iterator[str]:
    """Yield a line for every circle of rooms, and one for every circle of files."""
    for group in circles(graph_of(house.arrows())):
        yield f"rooms import each other in a circle: {' and '.join(group)}"
    for group in circles(house.file_graph()):
        files = " and ".join(str(house.files[module]) for module in group)
        yield f"files import each other in a circle: {files}"


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
    assert FLOORS.keys() - {room(module) for module in project_files(ROOT, INSTALLED)} == set()


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


@pytest.mark.parametrize(
    ("sources", "rooms"),
    [
        (
            {
                "raynas/nn/a.py": "import raynas.data.b",
                "raynas/nn/b.py": "",
                "raynas/data/a.py": "import raynas.nn.b",
                "raynas/data/b.py": "",
            },
            "raynas/data/ and raynas/nn/",
        ),
        (
            {
                "raynas/nn/__init__.py": "",
                "raynas/nn/a.py": "def f():\n    from raynas import data",
                "raynas/data/__init__.py": "",
                "raynas/data/a.py": "if TYPE_CHECKING:\n    from raynas.nn import Mutable",
            },
            "raynas/data/ and raynas/nn/",
        ),
        (
            {
                "raynas/results/a.py": "from raynas.cli import main",
                "raynas/results/b.py": "",
                "raynas/api.py": "from raynas.results.b import B",
                "raynas/cli.py": "from .api import cost",
            },
            "raynas/api.py and raynas/cli.py and raynas/results/",
        ),
    ],
)
def test_a_circle_of_rooms_is_found_on_any_floor(
    tmp_path: Path, sources: dict[str, str], rooms: str
) -> None:
    (line,) = violations(plant(tmp_path, sources))
    assert line == f"rooms import each other in a circle: {rooms}"


@pytest.mark.parametrize(
    "sources",
    [
        {"raynas/core/a.py": "from raynas.core.b import B", "raynas/core/b.py": "from . import a"},
        {
            "raynas/core/a.py": "def f():\n    from raynas.core.b import B",
            "raynas/core/b.py": "if TYPE_CHECKING:\n    from raynas.core.a import A",
        },
        {  # a package's face, and a file that asks the face for what another file gives
            "raynas/nn/__init__.py": "from raynas.nn.a import A",
            "raynas/nn/a.py": "from raynas.nn import B",
        },
        {  # over three files, and through a folder inside a room
            "raynas/nn/a.py": "from raynas.nn.graph import C",
            "raynas/nn/graph/__init__.py": "from .c import C",
            "raynas/nn/graph/c.py": "from ..a import A",
        },
        {  # under the name that the link gives it
            "cluster/a.py": "from raynas.cluster.b import B",
            "cluster/b.py": "import raynas.cluster.a",
        },
        {"raynas/api.py": "import raynas.cli", "raynas/cli.py": "import_module('raynas.api')"}
        | {"raynas/core/c.py": "import raynas.core.c"},  # itself: no circle of files
    ],
)
def test_a_circle_of_files_is_found(tmp_path: Path, sources: dict[str, str]) -> None:
    lines = violations(plant(tmp_path, sources))
    assert [line for line in lines if line.startswith("files import each other")] == [
        "files import each other in a circle: "
        + " and ".join(sorted(name for name in sources if not name.startswith("raynas/core/c")))
    ]


def test_two_circles_of_files_are_told_apart(tmp_path: Path) -> None:
    pairs = {"a": "b", "b": "a", "c": "d", "d": "c", "e": "a"}
    plant(tmp_path, {f"raynas/core/{x}.py": f"from . import {y}" for x, y in pairs.items()})
    assert [line.split(": ")[1] for line in violations(tmp_path)] == [
        "raynas/core/a.py and raynas/core/b.py",
        "raynas/core/c.py and raynas/core/d.py",
    ]


@pytest.fixture(scope="module")
def figures() -> dict[str, int]:
    """Return what is measured of the project itself."""
    return read_house(ROOT).figures()


@pytest.mark.parametrize("figure", GOALS)
def test_the_house_keeps_its_figures(figures: dict[str, int], figure: str) -> None:
    assert figures[figure] <= GOALS[figure]


def test_the_figures_of_a_small_house(tmp_path: Path) -> None:
    sources = {
        "raynas/__init__.py": "if TYPE_CHECKING:\n    from raynas.api import search",
        "raynas/api.py": "from raynas.core import a\nfrom raynas.cluster.tune import run",
        "raynas/core/__init__.py": "",
        "raynas/core/a.py": "from raynas.core.b import B",
        "raynas/core/b.py": "from . import a",
        "cluster/tune.py": "import ray\nimport raynas.core.a\nfrom raynas.core.b import B",
        "benchmarks/speed.py": "from raynas import search",
        "run.py": "def f():\n    from raynas.api import search",
        "tests/test_a.py": "from raynas.core.a import A",
        "tool.py": "import raynas.core.a",
    }
    house = read_house(plant(tmp_path, sources))
    assert house.figures() == {
        "rooms": 6,  # raynas/__init__.py, api, core, cluster, benchmarks, run.py
        "floors": 5,  # benchmarks, raynas, api, cluster, core
        "arrows": 6,
        "arrows up": 0,
        "circles between files": 1,
    }
    taken = house.arrows()["cluster/", "raynas/core/"]
    assert [(entry.line, entry.name) for entry in taken] == [(2, ""), (3, "B")]


def test_the_thinnest_arrow_of_a_circle_goes_up(tmp_path: Path) -> None:
    thick = "from raynas.core.a import A, B"
    sources = {"raynas/nn/a.py": thick, "raynas/core/a.py": "from raynas.nn.a import A"}
    house = read_house(plant(tmp_path, sources))
    assert arrows_up(house.arrows()) == {("raynas/core/", "raynas/nn/")}
    assert (house.figures()["floors"], house.figures()["arrows"]) == (2, 2)


def test_links_inside_the_package_are_not_read_twice(tmp_path: Path) -> None:
    plant(tmp_path, {"raynas/core/a.py": "", "algorithms/a.py": "import ray"})
    (tmp_path / "raynas" / "algorithms").symlink_to(Path("..", "algorithms"))
    assert len(violations(tmp_path)) == 1
