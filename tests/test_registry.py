"""The registry: names to plug-ins, loaded when they are looked up."""

from __future__ import annotations

import importlib
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from raynas.core.errors import UnknownName, nearest
from raynas.core.plugins import by_class_name
from raynas.core.registry import Registry
from raynas.core.sampler import SAMPLERS


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


# --- hints ----------------------------------------------------------------------------------------


def test_a_hint_names_the_nearest_word_or_all() -> None:
    assert nearest("dart", ["sgas", "darts"]) == "did you mean 'darts'?"
    assert nearest("zzz", ["sgas", "darts", "sgas"]) == "known: darts, sgas"
    assert nearest("zzz", []) == "none is known"


def test_a_guarded_package_is_not_imported_under_a_wrong_name() -> None:
    with pytest.raises(UnknownName, match="no algorithm named '__init__'; known: "):
        SAMPLERS["__init__"]
