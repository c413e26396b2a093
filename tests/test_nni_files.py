"""Architecture files of NNI's exporter, made by a writer of our own from the rules of its format.

The rules: a key for every mutable but scopes; what is chosen is named where the names of all
candidates differ and, of a layer choice, are not all digits, and stands as indices otherwise; a
list of one loses its brackets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from raynas.core.archspace import ArchSpace
from raynas.core.errors import InvalidArch
from raynas.core.fixed import read_arch
from raynas.nn import activate, freeze, space_of
from raynas.nn.mutable import mutables
from raynas.nni import (
    InputChoice,
    LayerChoice,
    MutableScope,
    apply_fixed_architecture,
    fixed_architecture,
)

NAMES = ("conv3", "conv5", "skip", "pool", "0", "1", "3", "7", "none")
Hot = list[bool]


def nni_form(names: list[str], hot: Hot, *, layers: bool) -> Any:
    """Return what NNI writes for a multi-hot over candidates of these names."""
    named = len(set(names)) == len(names)
    if layers and all(name.isdigit() for name in names):
        named = False
    chosen: list[Any] = [
        name if named else at
        for at, (name, picked) in enumerate(zip(names, hot, strict=True))
        if picked
    ]
    return chosen[0] if len(chosen) == 1 else chosen


def picked(rng: np.random.Generator, count: int, of: int | None) -> Hot:
    """Draw a multi-hot with ``of`` ones, or any."""
    if of is None:
        return [bool(bit) for bit in rng.integers(2, size=count)]
    places = rng.permutation(count)[:of]
    return [at in places for at in range(count)]


def a_layer_choice(rng: np.random.Generator, key: str) -> tuple[LayerChoice, list[str]]:
    count = int(rng.integers(1, 6))
    if rng.random() < 0.3:
        return LayerChoice([nn.Identity() for _ in range(count)], key=key), [
            *map(str, range(count))
        ]
    pool = [name for name in NAMES if name.isdigit()] if rng.random() < 0.4 else [*NAMES]
    names = [str(name) for name in rng.permutation(pool)[:count]]
    return LayerChoice({name: nn.Identity() for name in names}, key=key), names


def an_input_choice(
    rng: np.random.Generator, key: str, earlier: list[str]
) -> tuple[InputChoice, list[str]]:
    count = int(rng.integers(1, 6))
    n_chosen = None if rng.random() < 0.5 else int(rng.integers(1, count + 1))
    if not earlier or rng.random() < 0.3:
        return InputChoice(count, None, n_chosen, key=key), [""] * count
    keys = (
        [str(name) for name in rng.choice(earlier, size=count, replace=rng.random() < 0.2)]
        if (count <= len(earlier))
        else [str(name) for name in rng.choice(earlier, size=count)]
    )
    for at in rng.permutation(count)[: int(rng.integers(0, 3))]:
        keys[at] = InputChoice.NO_KEY
    return InputChoice(None, keys, n_chosen, "mean", False, key), keys


class Model(nn.Module):
    """Mutables side by side; only their decisions matter here."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.parts = nn.ModuleList()
        self.names: dict[str, list[str]] = {}
        keys = [str(key) for key in rng.permutation(["a", "b", "12", "cell.0", "3", "x/y"])]
        for key in keys[: int(rng.integers(1, 7))]:
            made: Any
            if rng.random() < 0.5:
                made, self.names[key] = a_layer_choice(rng, key)
            else:
                made, self.names[key] = an_input_choice(rng, key, [*self.names])
            self.parts.append(made)
        self.parts.append(MutableScope("a scope"))


def hots_of(model: Model, rng: np.random.Generator, *, single: bool) -> dict[str, Hot]:
    """Draw a multi-hot for every mutable; of layer choices any where not ``single``."""
    hots = {}
    for part in mutables(model):
        names = model.names[str(part.label)]
        own = part.n_chosen if isinstance(part, InputChoice) else 1 if single else None
        hots[str(part.label)] = picked(rng, len(names), own)
    return hots


def written(model: Model, hots: dict[str, Hot]) -> dict[str, Any]:
    """Return what NNI writes for them."""
    return {
        str(part.label): nni_form(
            model.names[str(part.label)],
            hots[str(part.label)],
            layers=isinstance(part, LayerChoice),
        )
        for part in mutables(model)
    }


def active(model: nn.Module) -> dict[str, Hot]:
    """Return what runs, by key."""
    hots = {}
    for part in mutables(model):
        assert isinstance(part, LayerChoice | InputChoice)
        count = len(part) if isinstance(part, LayerChoice) else part.n_candidates
        route = part.route if isinstance(part.route, tuple) else (part.route,)
        hots[str(part.label)] = [at in route for at in range(count)]
    return hots


@pytest.mark.parametrize("single", [True, False])
def test_every_file_that_nni_s_exporter_writes_is_read(single: bool, tmp_path: Path) -> None:
    for seed in range(300):
        rng = np.random.default_rng([seed, single])
        model = Model(seed)
        hots = hots_of(model, rng, single=single)
        file = tmp_path / f"{seed}.json"
        file.write_text(json.dumps(written(model, hots)))
        activate(model, file)  # type: ignore[arg-type]
        assert active(model) == hots, file.read_text()
        if single:  # as every other reader does, from the space alone
            assert dict(read_arch(space_of(model), str(file))) == architecture(
                space_of(model), hots
            )


def architecture(space: ArchSpace, hots: dict[str, Hot]) -> dict[str, Any]:
    values = {}
    for label, decision in space.decisions.items():
        options = [o for o, hot in zip(decision.options, hots[label], strict=True) if hot]
        values[label] = options[0] if type(decision).__name__ == "Choice" else tuple(options)
    return values


def test_what_we_write_has_the_same_form() -> None:
    for seed in range(300):
        model = Model(seed)
        hots = hots_of(model, np.random.default_rng(seed), single=True)
        arch = read_arch(space_of(model), {key: hot for key, hot in hots.items()})
        assert fixed_architecture(model, arch) == written(model, hots)


@pytest.mark.parametrize("form", ["booleans", "floats", "lists"])
def test_other_forms_that_nni_reads(form: str) -> None:
    for seed in range(100):
        model = Model(seed)
        hots = hots_of(model, np.random.default_rng(seed), single=False)
        given: dict[str, Any] = {}
        for key, hot in hots.items():
            lists = [at for at, one in enumerate(hot) if one]
            given[key] = {"booleans": hot, "floats": [*map(float, hot)], "lists": lists}[form]
        activate(model, json.dumps(given))  # type: ignore[arg-type]
        assert active(model) == hots, given


def net() -> nn.Module:
    return nn.Sequential(
        LayerChoice({"conv": nn.Linear(2, 2), "skip": nn.Identity()}, key="first"),
        LayerChoice([nn.Tanh(), nn.ReLU()], key="second"),
    )


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ({"first": 0}, "'second' is not decided; expected one of"),
        (
            {"first": 0, "second": 0, "secnd": 1},
            "no decision is labelled 'secnd'; did you mean 'second'",
        ),
        ({"first": "cnv", "second": 0}, "'cnv' is no option; did you mean 'conv'"),
        ({"first": 0, "second": 2}, "index 2 is not in 0 to 1"),
        ({"first": [0.3, 0.7], "second": 0}, "'first' is .*weights decide nothing"),
        ({"first": [True], "second": 0}, "it has 1 booleans, expected 2"),
        ({"first": ["conv", "conv"], "second": 0}, "it has 'conv' twice"),
    ],
)
def test_wrong_files_are_told_and_change_nothing(arch: dict[str, Any], said: str) -> None:
    model = net()
    for use in (apply_fixed_architecture, activate, freeze):
        with pytest.raises(InvalidArch, match=said):
            use(model, arch)
    assert len(list(mutables(model))) == 2


def test_a_missing_file_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        apply_fixed_architecture(net(), str(tmp_path / "none"))
    (tmp_path / "arch").write_text("[1]")
    with pytest.raises(InvalidArch, match="expected a JSON object"):
        apply_fixed_architecture(net(), str(tmp_path / "arch"))


def test_digits_are_indices_of_a_list_alone() -> None:
    model = net()
    activate(model, {"first": "conv", "second": "1"})
    assert [part.route for part in mutables(model)] == [0, 1]
    with pytest.raises(InvalidArch, match="'0' is no option"):
        activate(model, {"first": "0", "second": "1"})
