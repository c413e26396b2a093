"""``raynas describe``: users' own classes, the nearest name of a kind, and examples that hold."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import raynas
import raynas.api
from raynas.cli import app, main
from raynas.core.sampler import SAMPLERS
from raynas.report.json_objects import Plugin
from raynas.setup.registries import description, registries
from tests.inline import INLINE

OWN = '''
"""A module of a user's own."""

from raynas.core.archspace import ArchSpace
from raynas.core.sampler import Sampler
from raynas.tasks import Task

SPACE = ArchSpace.of(width=[8, 16], depth=[1, 2, 3])
NUMBER = 3


class Coin(Sampler):
    """Throws a coin.

    Args:
        space: that it searches.
        objectives: what counts.
        sides: how many the coin has.
    """

    def __init__(self, space, objectives, *, seed=0, sides=2):
        super().__init__(space, objectives, seed)


class Grade(Task):
    """Grades from one to six."""


class Wind:
    """A tunnel."""

    def bind(self, space, objectives):
        """Return what measures."""
        return lambda arch: {"accuracy": 1.0}


class Gust(Wind):
    pass


def judge(arch):
    """Say how good it is."""
    return {"accuracy": 0.5}
'''


def every_name() -> Iterator[tuple[str, str]]:
    for kind, group in registries().items():
        for registry in group:
            for name in registry:
                yield kind, name


NAMES = list(every_name())


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module ``mine_to_describe`` in the folder where one stands."""
    (tmp_path / "mine_to_describe.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def only(name: str) -> Plugin:
    (plugin,) = description(name).plugins
    return plugin


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "kind", "doc"),
    [
        ("Coin", "algorithm", "Throws a coin."),
        ("Grade", "task", "Grades from one to six."),
        ("Wind", "evaluator", "A tunnel."),
        ("judge", "evaluator", "Say how good it is."),
        ("SPACE", "search space", ""),
    ],
)
def test_what_a_users_own_class_is(name: str, kind: str, doc: str) -> None:
    plugin = only(f"mine_to_describe:{name}")
    assert plugin.kind == kind
    assert plugin.doc.startswith(doc)
    assert plugin.python is not None
    assert f"from mine_to_describe import {name};" in plugin.python
    ast.parse(plugin.python)


@pytest.mark.usefixtures("own")
def test_a_class_that_says_nothing_does_not_say_what_its_base_does() -> None:
    assert only("mine_to_describe:Gust").doc == ""


@pytest.mark.usefixtures("own")
def test_options_of_an_own_algorithm_are_told() -> None:
    options = {option.name: option for option in only("mine_to_describe:Coin").options}
    assert "seed" not in options
    assert options["sides"].default == 2
    text = raynas.describe("mine_to_describe:Coin")
    assert "sides = 2" in text
    assert "how many the coin has" in text


def test_an_own_model_is_told_with_its_choices_and_costs() -> None:
    space = only("tests.toynet:ToyNet").space
    assert space is not None
    assert space.size == 18
    assert space.decisions[0] == {"label": "first", "options": ["k3", "k5"], "picks": 1}
    text = raynas.describe("tests.toynet:ToyNet")
    assert "18" in text
    assert "raynas search tests.toynet:ToyNet" in text


@pytest.mark.usefixtures("own")
def test_an_own_space_is_told_without_costs() -> None:
    example = only("mine_to_describe:SPACE").python
    assert example is not None
    assert example.endswith("raynas.search(SPACE, 'random', trials=50)")
    space = only("mine_to_describe:SPACE").space
    assert space is not None
    assert (space.size, space.costs) == (6, None)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine_to_describe:Cion", "did you mean 'Coin'?"),
        ("mine_to_describe:NUMBER", "expected a model with choices"),
        ("mine_to_describ:Coin", "cannot be imported"),
        ("mine_to_describe:", "mine_to_describe has no ''"),
    ],
)
def test_what_no_plug_in_is(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", name]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("enass", "did you mean 'enas'"),
        ("mobilenet_v2_cifra", "did you mean 'mobilenet_v2_cifar'"),
        ("regularised_evolution", "did you mean 'regularized_evolution'"),
        ("clasification", "did you mean 'classification'"),
        ("MB3E4", "did you mean 'MB3E"),
        ("fashion", "did you mean 'fashion_mnist'"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(typed: str, answer: str) -> None:
    with pytest.raises(KeyError) as caught:
        raynas.describe(typed)
    assert answer in str(caught.value)
    assert "'snas'" not in str(caught.value)


def test_names_of_several_kinds_that_are_as_near_are_told_with_their_kind() -> None:
    with pytest.raises(KeyError, match=r"'enas' \(among the algorithms\).* \(among the spaces\)\?"):
        raynas.describe("enas_m")


def test_a_name_that_resembles_none_is_answered_with_what_there_is() -> None:
    with pytest.raises(KeyError, match=r"\(\d+ in all\)"):
        raynas.describe("qqqqqqqqqqqq")


@pytest.mark.parametrize("kind", sorted(registries()))
def test_every_name_has_an_example_that_is_understood(kind: str) -> None:
    """Python by its grammar, with names that exist; commands by the command line's own parser."""
    group: Any = typer.main.get_command(app)
    for plugin in plugins_of(kind):
        assert plugin.python is not None, plugin.name
        for call in calls(plugin.python):
            assert callable(attribute(call)), plugin.python
        if plugin.command is not None:
            words = shlex.split(plugin.command)
            assert words[0] == "raynas"
            parsed(group, words[1:])


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_examples_of_samplers_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, but for what they measure, and with fewer trials."""
    search = raynas.search

    def few(*arguments: Any, **options: Any) -> raynas.Result:
        small = {"trials": 3, "evaluator": measured, "ray": INLINE, "out": str(tmp_path)}
        return search(*arguments, **options | small)

    monkeypatch.setattr(raynas, "search", few)
    example = next(p for p in description(name).plugins if p.kind == "algorithm").python
    assert example is not None
    result = eval(example, {"raynas": raynas})
    assert result.config.algo.name == name
    assert len(result.trials) == 3


def measured(arch: raynas.Arch) -> dict[str, float]:
    width, depth = arch["width"], arch["depth"]
    assert isinstance(width, int)
    assert isinstance(depth, int)
    return {"accuracy": width / 128, "macs": float(width * depth)}


@pytest.mark.parametrize("name", ["mlp", "nas_bench_201", "mobilenet_v2_cifar"])
def test_examples_of_spaces_run(name: str) -> None:
    example = only(name).python
    assert example is not None
    assert isinstance(eval(example, {"raynas": raynas}), raynas.ArchSpace)


def plugins_of(kind: str) -> Iterator[Plugin]:
    """Yield what is told of a kind's names; of operators, which are made by rule, every tenth."""
    names = [name for of, name in NAMES if of == kind]
    for name in names[:: 10 if len(names) > 200 else 1]:
        yield from description(name).plugins


def calls(line: str) -> Iterator[str]:
    """Yield the dotted names below raynas that a line of Python uses."""
    for node in ast.walk(ast.parse(line)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("raynas."):
            yield ast.unparse(node.func).partition("[")[0]


def attribute(dotted: str) -> Any:
    found = raynas
    for name in dotted.split(".")[1:]:
        found = getattr(found, name)
    return found if callable(found) else found.__getitem__


def parsed(group: Any, arguments: list[str]) -> None:
    """Parse a command, and do nothing more."""
    with group.make_context("raynas", list(arguments)) as context:
        words = [*context._protected_args, *context.args]
        name, command, rest = group.resolve_command(context, words)
        command.make_context(name, rest, parent=context)
