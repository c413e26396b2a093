"""The registry: names to plug-ins, loaded when they are looked up."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

import raynas
from raynas.core.archspace import ArchSpace
from raynas.core.errors import UnknownName, nearest
from raynas.core.options import REQUIRED, Option, options_of
from raynas.core.plugins import by_class_name
from raynas.core.registry import Registry
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.gradient.base import Differentiable
from raynas.setup.objects import own_options
from raynas.setup.registries import registries
from raynas.supernet.protocol import ONE_SHOTS, OneShot, one_shot_class

DOCS = Path(__file__).parent.parent / "docs" / "registries.md"


@pytest.fixture
def toys() -> Registry[Callable[..., object]]:
    """A registry of two toys, without a package."""
    registry: Registry[Callable[..., object]] = Registry("toy")

    @registry.register("ball")
    class Ball:
        """Rolls."""

    @registry.register("kite")
    def kite() -> str:
        return "flies"

    return registry


def test_a_registry_is_a_mapping_in_order_of_names(
    toys: Registry[Callable[..., object]],
) -> None:
    assert list(toys) == ["ball", "kite"]
    assert len(toys) == 2
    assert "kite" in toys
    assert "kit" not in toys
    assert toys["kite"]() == "flies"
    assert toys.get("kite") is toys["kite"]
    assert toys.get("kit") is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bal", "no toy named 'bal'; did you mean 'ball'?"),
        ("xyz", "no toy named 'xyz'; known: ball, kite"),
        ("__init__", "no toy named '__init__'; known: ball, kite"),
        ("../ball", "no toy named '../ball'; did you mean 'ball'?"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    name: str, told: str, toys: Registry[Callable[..., object]]
) -> None:
    with pytest.raises(UnknownName) as caught:
        toys[name]
    assert str(caught.value) == told
    assert isinstance(caught.value, LookupError)


def test_nothing_is_known_of_an_empty_registry() -> None:
    with pytest.raises(UnknownName, match="no toy named 'ball'; none is known"):
        Registry("toy")["ball"]


def test_a_name_is_taken_once(toys: Registry[Callable[..., object]]) -> None:
    ball = toys["ball"]
    with pytest.raises(ValueError, match="toy 'ball' is already"):

        @toys.register("ball")
        def other() -> None:
            """Not the ball."""

    assert toys["ball"] is ball
    assert toys.register("ball")(ball) is ball


def test_one_plug_in_may_have_several_names(toys: Registry[Callable[..., object]]) -> None:
    toys.register("sphere")(toys["ball"])
    assert toys["sphere"] is toys["ball"]
    assert list(toys) == ["ball", "kite", "sphere"]


def test_a_call_registers_as_the_decorator_does(toys: Registry[Callable[..., object]]) -> None:
    def hoop() -> str:
        return "rolls"

    assert toys.register("hoop", hoop, aliases=("Ring",)) is hoop
    assert toys["hoop"] is toys["ring"] is hoop


# --- aliases and spellings ------------------------------------------------------------------------


@pytest.fixture
def spelled() -> Registry[Callable[..., object]]:
    """A registry of two plug-ins with aliases."""
    registry: Registry[Callable[..., object]] = Registry("toy")

    @registry.register("kick_scooter", aliases=("KickScooterToy", "Trottinette"))
    class KickScooter:
        """Rolls."""

    registry.register("darts", len, aliases=["DARTSOptim"])
    return registry


@pytest.mark.parametrize(
    "name", ["kick_scooter", "Kick-Scooter", "KICK SCOOTER", "kickscooter_toy", "trottinette"]
)
def test_a_name_is_found_in_any_spelling_and_by_its_aliases(
    name: str, spelled: Registry[Callable[..., object]]
) -> None:
    assert name in spelled
    assert spelled[name] is spelled.get_builder(name) is spelled["kick_scooter"]
    assert spelled.name_of(name) == "kick_scooter"
    assert spelled.aliases_of(name) == ("KickScooterToy", "Trottinette")


def test_a_listing_holds_true_names_only(spelled: Registry[Callable[..., object]]) -> None:
    assert list(spelled) == ["darts", "kick_scooter"]
    assert len(spelled) == 2
    assert dict(spelled)["darts"] is len
    no_name: Any = 3
    assert no_name not in spelled


def test_hints_know_aliases_and_lists_leave_them_out(
    spelled: Registry[Callable[..., object]],
) -> None:
    with pytest.raises(UnknownName, match="no toy named 'DartsOptin'; did you mean 'DARTSOptim'"):
        spelled["DartsOptin"]
    with pytest.raises(UnknownName, match=r"no toy named 'xyz'; known: darts, kick_scooter$"):
        spelled.name_of("xyz")
    with pytest.raises(UnknownName, match="no toy named 'xyz'"):
        spelled.aliases_of("xyz")


@pytest.mark.parametrize(
    ("name", "aliases", "told"),
    [
        ("Darts", (), "toy 'Darts' collides with 'darts'"),
        ("trott_inette", (), "'trott_inette' collides with 'Trottinette', an alias of 'kick_sc"),
        ("new", ("DARTS",), "toy 'DARTS', an alias of 'new', collides with 'darts'"),
        ("new", ("ok", "dartsoptim"), "'dartsoptim', an alias of 'new', collides with 'DARTSOp"),
        ("darts", (), "toy 'darts' is already <built-in function len>"),
        ("", (), "a toy's name has a letter or digit, got ''"),
        ("new", ("_- ",), "a toy's name has a letter or digit, got '_- '"),
    ],
)
def test_a_collision_names_both_and_changes_nothing(
    name: str, aliases: tuple[str, ...], told: str, spelled: Registry[Callable[..., object]]
) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        spelled.register(name, max, aliases=aliases)
    assert list(spelled) == ["darts", "kick_scooter"]
    assert "ok" not in spelled
    assert spelled["darts"] is len


def test_aliases_are_no_string(spelled: Registry[Callable[..., object]]) -> None:
    with pytest.raises(TypeError, match="aliases is a tuple of names, got 'abc'"):
        spelled.register("new", max, aliases="abc")


def test_the_same_definition_may_be_registered_again() -> None:
    toys: Registry[Callable[..., object]] = Registry("toy")

    def make() -> Callable[..., object]:
        def thing(*, size: int) -> int:
            return size

        return thing

    toys.register("thing", make(), aliases=("Ding",))
    again = make()
    toys.register("thing", again)
    assert toys["ding"] is again
    toys.register("small", partial(make(), size=1))
    toys.register("small", partial(make(), size=1))
    with pytest.raises(ValueError, match="toy 'small' is already"):
        toys.register("small", partial(make(), size=2))
    toys.register("first", lambda: 1)
    with pytest.raises(ValueError, match="toy 'first' is already"):
        toys.register("first", lambda: 2)


# --- building from a specification ----------------------------------------------------------------


@pytest.fixture
def makers() -> Registry[Callable[..., Any]]:
    """A registry of a class with options, and of a function of whatever it is given."""
    registry: Registry[Callable[..., Any]] = Registry("toy")

    @registry.register("kite", aliases=("Dragon",))
    def kite(length: int, tails: int = 1, *, colour: str = "red", area: float = 1.0) -> Any:
        return length, tails, colour, area

    @registry.register("anything")
    def anything(*things: object, **more: object) -> Any:
        return things, more

    return registry


@pytest.mark.parametrize(
    "spec",
    [
        ["kite", {"colour": "blue", "tails": 3}],
        ("Dragon", {"colour": "blue", "tails": 3}),
        {"type": "KITE", "args": {"colour": "blue", "tails": 3}},
    ],
)
def test_a_specification_overrides_the_call(spec: Any, makers: Registry[Any]) -> None:
    assert makers.build(spec, 5, colour="green", area="2") == (5, 3, "blue", 2.0)


def test_a_specification_may_be_a_name_alone(makers: Registry[Any]) -> None:
    assert makers.build("kite", 5) == (5, 1, "red", 1.0)
    assert makers.build({"type": "kite"}, length=4) == (4, 1, "red", 1.0)
    assert makers.build(["anything", {"self": 1, "spec": 2}], 3) == ((3,), {"self": 1, "spec": 2})


@pytest.mark.parametrize(
    "spec",
    [
        None,
        3,
        ["kite"],
        ["kite", {}, {}],
        ["kite", None],
        ["kite", ["colour"]],
        ["kite", {1: 2}],
        [3, {}],
        {},
        {"args": {}},
        {"type": "kite", "args": None},
        {"type": "kite", "arg": {}},
        {"type": ["kite"]},
    ],
)
def test_a_malformed_specification_is_told(spec: Any, makers: Registry[Any]) -> None:
    with pytest.raises(TypeError) as caught:
        makers.build(spec, 5)
    assert str(caught.value).startswith("toy: expected a name, [name, {option: value}] or {")
    assert str(caught.value).endswith(f"got {spec!r}")


def test_wrong_options_are_told(makers: Registry[Any]) -> None:
    with pytest.raises(ValueError, match="toy 'kite' has no option 'color'; did you mean 'colour'"):
        makers.build(["Dragon", {"color": "blue"}], 5)
    with pytest.raises(ValueError, match="toy 'kite': option 'area': input should be a valid num"):
        makers.build("kite", 5, area="wide")
    with pytest.raises(TypeError, match="toy 'kite': missing a required argument: 'length'"):
        makers.build("kite")
    with pytest.raises(TypeError, match="toy 'kite': multiple values for argument 'length'"):
        makers.build(["kite", {"length": 3}], 5)
    with pytest.raises(UnknownName, match="no toy named 'kit'; did you mean 'kite'"):
        makers.build(["kit", {}], 5)


def test_our_own_plug_ins_are_built_from_specifications() -> None:
    space = ArchSpace.of(x=[1, 2, 3])
    sampler = SAMPLERS.build(["RegularizedEvolution", {"population": 12}], space, seed=0)
    assert sampler.startup == 12


# --- a base that all plug-ins share ---------------------------------------------------------------


class Toy:
    """What all toys are."""

    wheels: int = 0


class Car(Toy):
    """Has wheels."""

    wheels = 4


@pytest.fixture
def garage() -> Registry[Callable[..., Any]]:
    """A registry of toys: a class, and functions that promise one or nothing."""
    registry: Registry[Callable[..., Any]] = Registry("toy", base=Toy)

    @registry.register("promised")
    def promised() -> Car:
        return Car()

    @registry.register("unsaid")
    def unsaid(made: Any) -> Any:
        return made

    registry.register("car", Car)
    registry.register("half", partial(Car))
    return registry


def test_a_class_of_another_base_is_refused(garage: Registry[Callable[..., Any]]) -> None:
    class Stone:
        """No toy."""

    wanted = (
        "toy 'stone': expected a subclass of tests.test_registry.Toy, got .*Stone: write class "
        r"Stone\(Toy\)"
    )
    for entry in (Stone, partial(Stone), partial(partial(Stone))):
        with pytest.raises(TypeError, match=wanted):
            garage.register("stone", entry)
    assert "stone" not in garage


def test_what_a_function_makes_is_checked_when_it_is_made(
    garage: Registry[Callable[..., Any]],
) -> None:
    car = Car()
    assert garage.make("unsaid", car) is car
    assert type(garage.make("CAR")) is type(garage.build("half")) is Car
    for make in (garage.make, garage.build):
        with pytest.raises(TypeError, match=r"toy 'unsaid': expected .*registry.Toy, got 3$"):
            make("unsaid", 3)
    vars(car)["wheel"] = 3
    with pytest.raises(TypeError, match=r"Car.wheel: a Toy has no .*; did you mean 'wheels'?"):
        garage.make("unsaid", car)


def test_the_class_of_a_plug_in_is_known_before_it_is_made(
    garage: Registry[Callable[..., Any]],
) -> None:
    assert garage.class_of("car") is garage.class_of("half") is garage.class_of("promised") is Car
    assert garage.class_of("unsaid") is Toy
    assert garage.class_of("car").wheels == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("base", "name", "value", "meant"),
    [
        (Sampler, "start_up", 10, "startup"),
        (Sampler, "startups", None, "startup"),
        (Sampler, "multi_objectives", True, "multi_objective"),
        (Sampler, "multiobjectve", True, "multi_objective"),
        (OneShot, "learn", False, "learns"),
        (OneShot, "warm_up_epochs", 3, "warmup_epochs"),
        (OneShot, "deafults", {}, "defaults"),
        (OneShot, "supernetSpace", lambda _, space: space, "supernet_space"),
    ],
)
def test_a_misspelt_capability_is_refused(base: type, name: str, value: object, meant: str) -> None:
    with pytest.raises(TypeError) as caught:
        type("Mine", (base,), {name: value})
    told = f"Mine.{name}: a {base.__name__} has no attribute {name!r}; did you mean {meant!r}?"
    assert str(caught.value) == told


def test_other_names_and_other_kinds_of_values_are_no_slips() -> None:
    mine: dict[str, Any] = {"starts": 6, "origins": [], "asked": 0, "_start_up": 3, "startup": 5}
    assert type("Mine", (Sampler,), mine).startup == 5  # type: ignore[attr-defined]
    theirs: dict[str, Any] = {
        "learn": lambda _: None,
        "derived": lambda _: None,
        "batch_sizes": lambda _: None,
        "warmup": 3,
        "steps": 5,
    }
    assert type("Mine", (OneShot,), theirs).learns  # type: ignore[attr-defined]


@pytest.mark.parametrize("registry", [SAMPLERS, ONE_SHOTS], ids=["samplers", "one_shots"])
def test_a_duck_is_told_which_base_it_lacks(registry: Registry[Any]) -> None:
    class Duck:
        """Quacks."""

    base = registry.base
    assert base is not None
    with pytest.raises(TypeError) as caught:
        registry.register("quack", Duck)
    told = str(caught.value)
    assert told.startswith(f"{registry.kind} 'quack': expected a subclass of {base.__module__}.")
    assert told.endswith(f"write class Duck({base.__name__})")


@dataclass(kw_only=True)
class Ridden:
    """What is ridden."""

    seed: int = 0
    wheels: int = 2
    bell: list[str] | None = None
    kept: int = field(init=False, default=3)


@dataclass(kw_only=True)
class Scooter(Ridden):
    """Adds two options between which a default changes."""

    board: float = 1.0
    wheels: int = 3
    colour: Literal["red", "blue"]


def test_a_dataclass_has_its_own_options_before_those_that_it_inherits() -> None:
    options = options_of(Scooter, without=("seed",))
    assert list(options.values()) == [
        Option("board", float, 1.0),
        Option("colour", Literal["red", "blue"], REQUIRED),
        Option("wheels", int, 3),
        Option("bell", list[str] | None, None),
    ]
    assert list(options_of(partial(Scooter, board=2.0), without=("seed",))) == list(options)
    assert options_of(partial(Scooter, board=2.0))["board"].default == 2.0
    assert own_options(Scooter, Scooter(colour="red", wheels=5)) == {
        "board": 1.0,
        "colour": "red",
        "seed": 0,
        "wheels": 5,
        "bell": None,
    }


def test_types_of_inherited_options_are_read_where_they_stand() -> None:
    for name in ONE_SHOTS:  # `Hardware` is not imported where the algorithms stand
        options = options_of(ONE_SHOTS[name])
        assert not any(isinstance(option.type, str) for option in options.values())
        penalised = {"hardware"} if issubclass(one_shot_class(name), Differentiable) else set()
        assert {"seed", *penalised} <= {*options}
    with pytest.raises(ValueError, match="option 'criterion': input should be 1 or 2, got 3"):
        ONE_SHOTS.build(["sgas", {"criterion": 3}])


# --- a package of plug-ins ------------------------------------------------------------------------

PLUGIN = """
from {package}.table import TOYS

@TOYS.register("{name}")
class {cls}:
    pass

class _Hidden:
    pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package with a plug-in a file, one under another name than its file's."""
    name = f"toybox_{uuid.uuid4().hex}"
    (tmp_path / name).mkdir()
    files = {
        "__init__": "",
        "table": f"from raynas.core.registry import Registry\nTOYS = Registry('toy', '{name}')\n",
        "ball": PLUGIN.format(package=name, name="ball", cls="Ball"),
        "kite": PLUGIN.format(package=name, name="kite", cls="Kite"),
        "round_things": PLUGIN.format(package=name, name="hoop", cls="Hoop"),
    }
    for file, text in files.items():
        (tmp_path / name / f"{file}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def toys_of(package: str) -> Registry[type]:
    """Return the package's registry."""
    registry: Registry[type] = importlib.import_module(f"{package}.table").TOYS
    return registry


def test_a_look_up_loads_the_file_of_that_name_only(package: str) -> None:
    toys = toys_of(package)
    assert toys["kite"].__name__ == "Kite"
    assert f"{package}.kite" in sys.modules
    assert f"{package}.ball" not in sys.modules


def test_a_name_without_a_file_is_found_in_the_others(package: str) -> None:
    assert toys_of(package)["hoop"].__name__ == "Hoop"


def test_a_listing_loads_all_files(package: str) -> None:
    assert list(toys_of(package)) == ["ball", "hoop", "kite"]


def test_an_unknown_name_is_compared_with_those_of_all_files(package: str) -> None:
    with pytest.raises(UnknownName, match="no toy named 'hop'; did you mean 'hoop'"):
        toys_of(package)["hop"]


def test_another_spelling_loads_one_file_as_well(package: str) -> None:
    assert toys_of(package)["KITE"].__name__ == "Kite"
    assert f"{package}.ball" not in sys.modules


def test_a_name_that_a_file_has_is_refused_where_it_is_registered(package: str) -> None:
    toys = toys_of(package)
    with pytest.raises(ValueError, match="toy 'ball' is already <class"):
        toys.register("ball", type("Own", (), {}))
    with pytest.raises(ValueError, match="toy 'Kite' collides with 'kite'"):
        toys.register("Kite", type("Own", (), {}))
    assert toys["ball"].__name__ == "Ball"


def test_a_reloaded_file_may_register_again(package: str) -> None:
    toys = toys_of(package)
    before = toys["ball"]
    importlib.reload(sys.modules[f"{package}.ball"])
    assert toys["ball"] is not before


def test_a_plug_in_is_found_by_its_class_name(package: str) -> None:
    assert by_class_name(package, "Hoop") is toys_of(package)["hoop"]
    with pytest.raises(AttributeError, match="has no 'Hop'; did you mean 'Hoop'"):
        by_class_name(package, "Hop")
    for name in ("_Hidden", "TOYS", "Registry"):  # private, no class, and somebody else's
        with pytest.raises(AttributeError, match=f"has no '{name}'"):
            by_class_name(package, name)


# --- entry points of other distributions ----------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The group of an installed distribution's entry points: two toys that load, and others."""
    name = f"toyshop_{uuid.uuid4().hex}"
    points = {
        "Yo-Yo": f"{name}:YoYo",
        "ball": f"{name}:Ball",
        "registering": f"{name}_more",
        "nowhere": f"{name}_missing:Toy",
        "no_such": f"{name}:Toy",
        "number": f"{name}:NUMBER",
        "silent": f"{name}_silent",
        "failing": f"{name}_failing:Toy",
    }
    files = {
        f"{name}.py": "class YoYo: ...\nclass Ball: ...\nNUMBER = 3\n",
        f"{name}_more.py": f"import {name}_table\n"
        f"@{name}_table.TOYS.register('registering', aliases=('Other Name',))\n"
        "class Own: ...\n",
        f"{name}_table.py": "from raynas.core.registry import Registry\n"
        f"TOYS = Registry('toy', group='{name}')\n",
        f"{name}_silent.py": "",
        f"{name}_failing.py": "raise RuntimeError('no licence')\n",
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/entry_points.txt": f"[{name}]\n"
        + "".join(f"{key} = {value}\n" for key, value in points.items()),
    }
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]


def shop(name: str) -> Registry[type]:
    """Return the registry that the distribution knows."""
    registry: Registry[type] = importlib.import_module(f"{name}_table").TOYS
    return registry


def test_an_entry_point_is_loaded_when_it_is_looked_up(installed: str) -> None:
    toys = shop(installed)
    assert installed not in sys.modules
    assert toys["yo_yo"].__name__ == "YoYo"
    assert toys.name_of("yoyo") == "Yo-Yo"
    assert "ball" in toys
    assert f"{installed}_failing" not in sys.modules
    assert f"{installed}_more" not in sys.modules


def test_a_known_name_asks_no_entry_point(installed: str) -> None:
    toys = shop(installed)

    @toys.register("yo_yo")
    class Mine: ...

    assert toys["YoYo"] is Mine
    assert installed not in sys.modules


def test_an_entry_point_may_be_a_module_that_registers(installed: str) -> None:
    toys = shop(installed)
    assert toys["registering"].__name__ == "Own"
    assert toys.aliases_of("other_name") == ("Other Name",)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere", "ModuleNotFoundError: No module named"),
        ("no_such", "has no attribute 'Toy'"),
        ("Number", "TypeError: expected a class, function or module, got 3"),
        ("silent", "registers no 'silent'"),
        ("failing", "RuntimeError: no licence"),
    ],
)
def test_a_broken_entry_point_is_told_when_it_is_looked_up(
    name: str, why: str, installed: str
) -> None:
    toys = shop(installed)
    for _ in range(2):
        with pytest.raises(ImportError) as caught:
            toys[name]
        assert f"toy {name.lower()!r} cannot be loaded: entry point '{name.lower()} = " in str(
            caught.value
        )
        assert f"(group {installed}) of {installed}: " in str(caught.value)
        assert why in str(caught.value)
    assert name not in toys
    assert toys["ball"].__name__ == "Ball"


def test_broken_entry_points_are_warned_of_once_on_a_listing(installed: str) -> None:
    toys = shop(installed)
    with pytest.raises(ImportError, match="no licence"):
        toys["failing"]
    with pytest.warns(RuntimeWarning, match="cannot be loaded") as told:
        assert list(toys) == ["Yo-Yo", "ball", "registering"]
    broken = {str(warning.message).split("'")[1] for warning in told}
    assert broken == {"nowhere", "no_such", "number", "silent", "failing"}
    assert len(told) == 5
    assert len(toys) == 3  # without a warning, which would be an error here


def test_an_alias_is_found_by_loading_all_entry_points(installed: str) -> None:
    with pytest.warns(RuntimeWarning, match="cannot be loaded"):
        assert shop(installed)["OtherName"].__name__ == "Own"


def test_an_unknown_name_is_compared_with_those_of_entry_points(installed: str) -> None:
    with (
        pytest.warns(RuntimeWarning, match="cannot be loaded"),
        pytest.raises(UnknownName, match="no toy named 'Yo-Yos'; did you mean 'Yo-Yo'"),
    ):
        shop(installed)["Yo-Yos"]


def test_an_entry_point_never_replaces_a_plug_in(installed: str) -> None:
    toys = shop(installed)

    @toys.register("Ball")
    class Mine: ...

    with pytest.warns() as told:
        assert list(toys) == ["Ball", "Yo-Yo", "registering"]
    (about,) = [str(w.message) for w in told if "toy 'ball' cannot be loaded" in str(w.message)]
    assert "collides with 'Ball'" in about
    assert toys["ball"] is Mine


# --- what users see -------------------------------------------------------------------------------

SCRIPT = """
import json, runpy, sys
import raynas
from raynas.setup.registries import registries

known = {r.kind: set(r) for group in registries().values() for r in group}
names = runpy.run_path(sys.argv[1])
told = {"added": {}}
for registry in [r for group in registries().values() for r in group]:
    more = set(registry) - known[registry.kind]
    told["added"][registry.kind] = sorted(more)
space = raynas.space("OneLayer", num_classes=2)
told["asked"] = [raynas.sampler("backwards", space.arch_space).ask()["layer"]]
names["SAMPLERS"].register("stripes", names["Backwards"], aliases=("Downwards",))
told["twice"], told["alias"] = raynas.describe("stripes"), raynas.describe("downwards")
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a fresh interpreter tells after running the documentation's example."""
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    script = tmp_path_factory.mktemp("docs") / "example.py"
    script.write_text(example)
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(script)]
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent.parent)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_documented_example_adds_plug_ins(told: Any) -> None:
    assert {kind: names for kind, names in told["added"].items() if names} == {
        "algorithm": ["backwards"],
        "search space": ["one_layer"],
        "operator": ["wide_conv"],
        "data set": ["stripes"],
    }
    assert told["asked"] == ["wide_conv"]


def test_describe_tells_every_plug_in_of_one_name(told: Any) -> None:
    order = ["stripes (algorithm)", "Proposes a small space", "Aliases: Downwards"]
    order += ["stripes (data set)", "Horizontal or vertical", "noise = 1.0"]
    places = [told["twice"].index(text) for text in order]
    assert places == sorted(places)
    assert told["alias"].startswith("downwards is an alias of stripes.\n\nstripes (algorithm)\n")
    assert "data set" not in told["alias"]


def test_describe_says_of_what_a_name_is_an_alias() -> None:
    assert raynas.describe("RandomSearchOptim").startswith(
        "RandomSearchOptim is an alias of random.\n\nrandom (algorithm)\n"
    )
    assert "Aliases: RandomSearchOptim, RandomSearch" in raynas.describe("random")
    assert "alias" not in raynas.describe("digits").lower()
    with pytest.raises(UnknownName, match="nothing is named 'RandomSerch'; did you mean 'RandomS"):
        raynas.describe("RandomSerch")


def test_the_documented_registries_are_all_and_take_entry_points() -> None:
    rows = re.findall(
        r"^\|[^|]+\| `([\w.]+)` \|.*\| `([\w.]+)` \|$", DOCS.read_text(), re.MULTILINE
    )
    documented = []
    for path, group in rows:
        module, _, name = path.rpartition(".")
        registry = getattr(importlib.import_module(module), name)
        assert registry.group == group
        documented.append(registry)
    every = [registry for group in registries().values() for registry in group]
    assert {*map(id, documented)} == {*map(id, every)}


# --- hints ----------------------------------------------------------------------------------------


def test_a_hint_names_the_nearest_word_or_all() -> None:
    assert nearest("dart", ["sgas", "darts"]) == "did you mean 'darts'?"
    assert nearest("zzz", ["sgas", "darts", "sgas"]) == "known: darts, sgas"
    assert nearest("zzz", []) == "none is known"
    assert nearest("13", [13, 5]) == "did you mean 13?"
    assert nearest("zzz", "abcdefghijkl") == "known: a, b, c, d, e, f, g, h, i, j, k, l"
    assert nearest("zzz", "abcdefghijklm") == "known: a, b, c, d, e, f, ... (13 in all)"


def test_what_is_no_plug_in_or_no_name_is_refused() -> None:
    toys: Registry[Any] = Registry("toy")
    for entry in (3, "ball"):
        with pytest.raises(TypeError, match=f"toy 'ball': expected a class or .*, got {entry!r}"):
            toys.register("ball", entry)  # type: ignore[call-overload]
    assert list(toys) == []
    with pytest.raises(TypeError, match="search space: expected a registered name, got 3"):
        raynas.space(3)  # type: ignore[arg-type]


def test_a_guarded_package_is_not_imported_under_a_wrong_name() -> None:
    with pytest.raises(UnknownName, match="no algorithm named '__init__'; known: "):
        SAMPLERS["__init__"]
