"""Measure the house: ``python tests/house.py [ROOT] [--arrows]`` reads every import.

A room is a folder directly under raynas/ or at the top of the repository, or a file that stands
there by itself. An arrow leads from one room to another that at least one of its files imports;
the floors are the longest chain of rooms by arrows. Imports count wherever they are written, inside
functions and under ``TYPE_CHECKING`` too; what is imported by a computed name is not seen.
``from raynas.x import name`` imports the file raynas/x/name.py where there is one, and otherwise
raynas/x/__init__.py, whatever that re-exports.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Installed inside raynas, where links show them to what does not install.
PACKAGES = ("algorithms", "search_spaces", "cluster")
PRODUCT = ("raynas", *PACKAGES, "benchmarks", "run.py")
# raynas/nni/ and raynas/registry/ are there for names that people know from elsewhere
GOALS = {"rooms": 23, "floors": 11, "arrows": 98, "arrows up": 0, "circles between files": 0}
THIN = 2  # an arrow that rests on so few imports is listed with the names that it takes

Graph = Mapping[str, Collection[str]]


@dataclass(frozen=True)
class Import:
    """A name that a module takes from ``target``, another module or somebody else's package."""

    module: str
    line: int
    target: str
    name: str


@dataclass(frozen=True)
class House:
    """The files of a project by module, and all that they import."""

    files: dict[str, Path]
    imports: list[Import]

    def file_graph(self) -> dict[str, set[str]]:
        """Return which modules of the project each module imports."""
        graph: dict[str, set[str]] = {module: set() for module in self.files}
        for entry in self.imports:
            if entry.target in graph and entry.target != entry.module:
                graph[entry.module].add(entry.target)
        return graph

    def room(self, module: str) -> str:
        """Return the room of a module by its path, such as ``raynas/nn/`` or ``cluster/``."""
        parts = self.files[module].parts
        inside = 2 if parts[0] == "raynas" else 1
        return "/".join(parts[:inside]) + ("/" if len(parts) > inside else "")

    def arrows(self) -> dict[tuple[str, str], list[Import]]:
        """Return the imports that each arrow from one room to another rests on."""
        found: dict[tuple[str, str], list[Import]] = {}
        for entry in self.imports:
            if entry.target in self.files:
                pair = self.room(entry.module), self.room(entry.target)
                if pair[0] != pair[1]:
                    found.setdefault(pair, []).append(entry)
        return found

    def figures(self) -> dict[str, int]:
        """Return what is measured, by the names of ``GOALS``."""
        arrows = self.arrows()
        up = arrows_up(arrows)
        rooms = {self.room(module) for module in self.files}
        return {
            "rooms": len(rooms),
            "floors": longest_chain(graph_of(arrows.keys() - up, rooms)),
            "arrows": len(arrows),
            "arrows up": len(up),
            "circles between files": len(circles(self.file_graph())),
        }


def read_house(root: Path, places: Iterable[str] = PRODUCT) -> House:
    """Read every file of the project at ``root`` that stands in one of ``places``."""
    files = project_files(root, places)
    imports = [
        Import(module, line, settle(f"{source}.{name}" if name else source, files), name)
        for module, path in files.items()
        for line, source, name in imported_names(root / path, module)
    ]
    return House(files, imports)


def project_files(root: Path, places: Iterable[str] = PRODUCT) -> dict[str, Path]:
    """Map each module's true name to its file, relative to ``root``; links are not followed."""
    found = {}
    for place in places:
        path = root / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            relative = file.relative_to(root)
            parts = relative.with_suffix("").parts
            parts = ("raynas", *parts) if parts[0] in PACKAGES else parts
            found[".".join(parts).removesuffix(".__init__")] = relative
    return found


def imported_names(path: Path, module: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, source and name of every import, at any depth, as far as it is spelled out."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name, "") for alias in names)
            case ast.ImportFrom(names=names):
                source = absolute(node, package)
                yield from ((node.lineno, source, alias.name) for alias in names)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
                if ast.unparse(func).split(".")[-1] in {"import_module", "__import__"}:
                    yield node.lineno, name, ""


def absolute(node: ast.ImportFrom, package: str) -> str:
    """Return where a ``from`` import looks, with leading dots resolved against ``package``."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def settle(name: str, modules: Collection[str]) -> str:
    """Return the module that a dotted name lies in, or the name itself when it is foreign."""
    parts = name.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((p for p in prefixes if p in modules), name)


def graph_of(pairs: Iterable[tuple[str, str]], nodes: Iterable[str] = ()) -> dict[str, set[str]]:
    """Return the graph of these arrows, with all their ends and ``nodes`` in it."""
    graph: dict[str, set[str]] = {node: set() for node in nodes}
    for here, to in pairs:
        graph.setdefault(here, set()).add(to)
        graph.setdefault(to, set())
    return graph


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of nodes that reach each other: strongly connected components above 1."""
    reach = {node: _reached_from(node, graph) for node in graph}
    groups = {
        tuple(sorted(other for other in reach[node] if node in reach[other]))
        for node in graph
        if node in reach[node]
    }
    return sorted(map(list, groups))


def _reached_from(start: str, graph: Graph) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = set(graph[waiting.pop()]) - reached
        reached |= new
        waiting += new
    return reached


def arrows_up(arrows: Mapping[tuple[str, str], list[Import]]) -> set[tuple[str, str]]:
    """Return the arrows to take away until no rooms go in a circle, the thinnest first."""
    up: set[tuple[str, str]] = set()
    while groups := circles(graph_of(arrows.keys() - up)):
        inside = [pair for pair in arrows.keys() - up if {*pair} <= {*groups[0]}]
        up.add(min(inside, key=lambda pair: (len(arrows[pair]), pair)))
    return up


def longest_chain(graph: Graph) -> int:
    """Return how many nodes the longest path of a graph without circles has."""
    lengths: dict[str, int] = {}

    def length(node: str) -> int:
        if node not in lengths:
            lengths[node] = 1 + max(map(length, graph[node]), default=0)
        return lengths[node]

    return max(map(length, graph), default=0)


def table(figures: Mapping[str, int]) -> str:
    """Return the figures beside their goals, a line each."""
    lines = [f"{'':<24}{'is':>6}{'goal':>8}"]
    for name, value in figures.items():
        kept = "" if value <= GOALS[name] else "  not met"
        lines.append(f"{name:<24}{value:>6}{'≤ ' + str(GOALS[name]):>8}{kept}")
    return "\n".join(lines)


def describe_arrows(house: House) -> Iterator[str]:
    """Yield a line per arrow, the thinnest first; what the thin ones take is named."""
    arrows = house.arrows()
    up = arrows_up(arrows)
    for pair, entries in sorted(arrows.items(), key=lambda item: (len(item[1]), item[0])):
        files = len({entry.module for entry in entries})
        mark = "  goes up" if pair in up else ""
        yield f"{pair[0]} -> {pair[1]}: imports {len(entries)}, files {files}{mark}"
        if len(entries) <= THIN:
            yield from (f"    {_spelled(house, entry)}" for entry in entries)


def describe_circles(house: House) -> Iterator[str]:
    """Yield the files of every circle, and what each takes from the others."""
    for number, group in enumerate(circles(house.file_graph()), 1):
        yield f"circle {number}: {', '.join(str(house.files[module]) for module in group)}"
        inside = (e for e in house.imports if {e.module, e.target} <= {*group})
        yield from (f"    {_spelled(house, e)}" for e in inside if e.module != e.target)


def _spelled(house: House, entry: Import) -> str:
    taken = f" takes {entry.name}" if entry.name else " imports all"
    return f"{house.files[entry.module]}:{entry.line}{taken} from {house.files[entry.target]}"


def main(arguments: list[str]) -> None:
    """Print the figures, and on demand what they count."""
    parser = argparse.ArgumentParser(description="Measure rooms, floors, arrows and circles.")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="the repository")
    parser.add_argument("--arrows", action="store_true", help="list the arrows and circles too")
    options = parser.parse_args(arguments)
    house = read_house(options.root)
    if not house.files:
        parser.error(f"no product to measure in {options.root}: expected {', '.join(PRODUCT)}")
    print(table(house.figures()))
    if options.arrows:
        print(*describe_arrows(house), *describe_circles(house), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
