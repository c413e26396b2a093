"""Constructors: templates filled, descriptions read or refused, and the example."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from raynas.core.errors import InvalidArch, InvalidSpace, UnknownName
from raynas.nn import (
    Repeat,
    activate,
    freeze,
    space_of,
)
from raynas.nn.construct import construct
from raynas.nn.construct.description import parsed
from raynas.nn.export import export
from raynas.nn.mutable import mutables
from raynas.nn.operators import OPERATORS
from raynas.nn.slot import Slot, empty_slots
from tests.test_exporters import (
    PAIRS,
    Cells,
    Twice,
    X,
    build,
    conv,
    mixed,
    template,
    two_slots,
)

READERS = ("arch_desc", "recursive_arch_desc", "params")


# Filling templates.


def test_slots_made_in_one_pass_are_filled_by_the_next() -> None:
    first = construct(template(None), [("mixed_op", {"candidates": {"two": two_slots}})])
    assert space_of(first).labels == ("1",)
    assert [slot.label for slot in empty_slots(first)] == ["1.two.0", "1.two.2"]
    second = mixed(first)
    assert space_of(second).labels == ("1", "1.two.0", "1.two.2")
    assert not empty_slots(second)
    assert len(empty_slots(first)) == 2


def test_nested_lists_fill_a_template_at_once() -> None:
    arch_desc = [["two", [["NC3"], ["IDT"]]], ["NC3"]]
    options = {"arch_desc": arch_desc, "candidates": {"two": two_slots}}
    net = construct(template(), [("arch_desc", options)])
    assert not list(mutables(net))
    assert net(X.float()).shape == X.shape
    for inner, said in (
        ([["NC3"]], "expected 2 entries"),
        ([["NC3"], None], "leaves choices of 'two' open"),
        (["NC3", ["two", ["NC3", "NC"]]], "no operator named 'NC'"),
        ("NC3", "expected a list of 2 entries"),
    ):
        options = {"arch_desc": [["two", inner], "NC3"], "candidates": {"two": two_slots}}
        with pytest.raises(InvalidArch, match=said):
            construct(template(), [("arch_desc", options)])


def test_an_operator_fills_all_slots() -> None:
    net = template(None, "a")
    filled = construct(net, [("op", {"op": "NC3"})])
    assert space_of(filled).choices == ()
    assert list(freeze(filled, {}).state_dict()) == [
        *(f"0.{k}" for k in ("weight", "bias")),
        *(f"{i}.{k}" for i in (1, 2) for k in OPERATORS["NC3"](4, 4, 1).state_dict()),
    ]
    own = construct(net, [("op", {"op": lambda *shape: nn.Conv2d(shape[0], shape[1], 1)})])
    assert own(X.float()).shape == X.shape
    assert len(empty_slots(net)) == 2


def test_slots_of_one_name_decide_together_unless_told_otherwise() -> None:
    net = template("a", None, "a")
    assert space_of(mixed(net)).labels == ("a", "2")
    assert space_of(mixed(net, share=False)).labels == ("1", "2", "3")
    apart = construct(net, [("arch_desc", {"arch_desc": ["NC3", "NC3", "IDT"]})])
    assert isinstance(apart, nn.Sequential)
    assert type(apart[1]) is not type(apart[3])  # without choices, each slot is filled on its own


def test_an_operator_takes_the_facts_it_has_options_for() -> None:
    net = nn.Sequential(Slot(4, order="weight_bn", kernel=9, note="first"))
    specs = {"slot's": "NC3", "own": ["NC3", {"order": "weight"}], "none": lambda *_: conv()}
    layer = mixed(net, "NC3")[0].entity.layers()[0]  # type: ignore[index]
    assert [name for name, _ in layer.named_children()] == ["weight", "bn"]
    assert layer.weight.kernel_size == (3, 3)  # NC3's kernel is settled
    filled = construct(net, [("mixed_op", {"candidates": specs})])
    kinds = [[*dict(layer.named_children())] for layer in filled[0].entity.layers()]  # type: ignore[index]
    assert kinds == [["weight", "bn"], ["weight"], []]


def test_a_slot_of_several_inputs_takes_layers_that_do() -> None:
    class Join(nn.Module):
        def __init__(self, channels_in: list[int], channels_out: int, stride: int) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(c, channels_out, 1, stride) for c in channels_in)

        def forward(self, *inputs: Tensor) -> Tensor:
            outs = [conv(x) for conv, x in zip(self.convs, inputs, strict=True)]
            return torch.stack(outs).sum(0)

    net = construct(Slot([4, 4], 6), [("op", {"op": Join})])
    assert net(X.float(), X.float()).shape == (2, 6, 6, 6)
    with pytest.raises(InvalidSpace, match=r"candidate 'NC3' cannot be built for \[4, 4\] -> 6"):
        construct(Slot([4, 4], 6, name="join"), [("op", {"op": "NC3"})])
    with pytest.raises(InvalidSpace, match=r"must be an nn\.Module, got a int"):
        construct(Slot([4, 4], 6), [("op", {"op": lambda *_: 3})])


@pytest.mark.parametrize(
    ("candidates", "said"),
    [
        (["NC3", "MAX"], r"^1: candidate 'MAX' cannot be built for 4 -> 8"),
        ({"bad": ["NC3", {"order": "bn"}]}, "^0: candidate 'bad'"),
        ({"bad": ["NC3", {"ordr": "bn"}]}, "'bad'.* no option 'ordr'; did you mean 'order'"),
        ({"bad": lambda i, o, _: nn.Conv2d(i, o, 1)}, "^1: candidate 'bad', built for .* makes"),
        ({"bad": lambda *_: 3}, "^0: candidate 'bad'"),
        ({"bad": 3}, "expected an operator's name, .* got 3"),
        (["NC3", "NC3"], "'NC3' is named twice"),
        ([], "at least one"),
        ({}, "at least one"),
    ],
)
def test_candidates_that_do_not_fit_are_refused(candidates: Any, said: str) -> None:
    net = nn.Sequential(Slot(4), Slot(4, 8, 2))
    with pytest.raises(InvalidSpace, match=said):
        construct(net, [("mixed_op", {"candidates": candidates})])
    assert len(empty_slots(net)) == 2
    with pytest.raises(UnknownName, match="did you mean 'NC3'"):
        mixed(net, "NC33")


def test_none_keeps_what_is_there() -> None:
    supernet = mixed(template(None, None, "free"))
    half = construct(supernet, [("arch_desc", {"arch_desc": [["NC3"], None, "IDT"]})])
    assert space_of(half).labels == ("2",)
    tree = {"1": "NC3", "2": None, "3": "IDT"}
    assert space_of(
        construct(supernet, [("recursive_arch_desc", {"arch_desc": tree})])
    ) == space_of(half)
    kept = construct(template(), [("arch_desc", {"arch_desc": ["NC3", None]})])
    assert [slot.path for slot in empty_slots(kept)] == ["2"]
    assert not empty_slots(mixed(kept))
    cells = Cells({"a": conv(1), "b": conv()})
    cell = export(cells, space_of(cells).sample(np.random.default_rng(0)), "slots")[1]
    rest = construct(cells, [("arch_desc", {"arch_desc": [None, cell]})])
    assert all(label.startswith("normal/") for label in space_of(rest).labels)


# Refusals.


@pytest.mark.parametrize(
    ("arch_desc", "said"),
    [
        ([["NC3"]], r"expected 2 entries, .* got 1; the first without one is '2'"),
        ([["NC3"]] * 3, "expected 2 entries, one for each place, got 3"),
        ([["NC3"], ["NC33"]], r"^entry 1 \(2\): .*'NC33'.*did you mean 'NC3'"),
        ([["NC3"], ["NC3", "IDT"]], r"^entry 1 \(2\)"),
        ([["NC3"], ["NC3", ["IDT"]]], r"^entry 1 \(2\)"),
        ([["NC3"], 7], r"^entry 1 \(2\)"),
        ([["NC3"], []], r"^entry 1 \(2\)"),
        ({"1": "NC3"}, "expected a list of 2 entries, got {'1': 'NC3'}"),
        ("NC3", "expected a list of 2 entries, got 'NC3'"),
    ],
)
@pytest.mark.parametrize("model", [template(), mixed(template())])
def test_lists_that_do_not_fit_are_refused(model: nn.Module, arch_desc: Any, said: str) -> None:
    with pytest.raises(InvalidArch, match=said):
        construct(model, [("arch_desc", {"arch_desc": arch_desc})])


@pytest.mark.parametrize(
    ("arch_desc", "said"),
    [
        ({"block": {"1": "NC3"}}, "^block: no entry for '2'"),
        ({}, "^the model: no entry for 'block'"),
        ({"block": {"1": "NC3", "2": "NC3", "3": {}}}, "^block: no module is named '3'"),
        ({"blok": {}}, "^the model: .*'blok'; did you mean 'block'"),
        ({"block": ["NC3", "NC3"]}, r"^block: expected a dict by module names, got \['NC3'"),
        ({"block": {"0": ["NC3"], "1": "NC3", "2": "NC3"}}, r"^block\.0: expected a dict"),
        ({"block": {"1": {"2": "NC3"}, "2": "NC3"}}, r"^block\.1: "),
        ({"block": {"1": "NC3", "2": "NC33"}}, r"^block\.2: .*'NC33'.*did you mean 'NC3'"),
    ],
)
@pytest.mark.parametrize("fill", [lambda net: net, mixed])
def test_trees_that_do_not_fit_are_refused(
    fill: Callable[[nn.Module], nn.Module], arch_desc: Any, said: str
) -> None:
    model = fill(nn.ModuleDict({"block": template()}))
    with pytest.raises(InvalidArch, match=said):
        construct(model, [("recursive_arch_desc", {"arch_desc": arch_desc})])


def test_a_tree_may_have_empty_entries_for_plain_modules() -> None:
    net = construct(
        template(), [("recursive_arch_desc", {"arch_desc": {"0": {}, "1": "NC3", "2": "IDT"}})]
    )
    assert not list(mutables(net))


def test_a_module_is_described_once() -> None:
    net = Twice()
    tree = {"first": "k1", "again": {"0": "k1"}}
    with pytest.raises(InvalidArch, match=r"^again\.0: this module is described twice"):
        construct(net, [("recursive_arch_desc", {"arch_desc": tree})])


@pytest.mark.parametrize(
    ("arch_desc", "said"),
    [
        ({"1": "NC3"}, "'2' is not decided"),
        ({"1": "NC3", "2": "NC3", "3": 0}, "'3'"),
        (["NC3"], "expected more than 1 choices: there is none for '2'"),
        (["NC3", "IDT", "NC3"], "expected 2 choices, got 3"),
        (["NC3", "NC"], "'2' is 'NC'.*did you mean 'NC3'"),
        (3, "expected a dict from label to choice, or a list, got 3"),
    ],
)
def test_choices_that_do_not_fit_are_refused(arch_desc: Any, said: str) -> None:
    with pytest.raises(InvalidArch, match=said):
        construct(mixed(template()), [("params", {"arch_desc": arch_desc})])


def test_places_of_one_label_are_described_alike() -> None:
    with pytest.raises(InvalidArch, match=r"^entry 2 \(3\): 'a' is decided twice, as 'NC3' and as"):
        construct(
            mixed(template("a", "b", "a")), [("arch_desc", {"arch_desc": ["NC3", "NC3", "IDT"]})]
        )


def test_an_operator_that_does_not_fit_its_slot_is_refused() -> None:
    net = nn.Sequential(Slot(4), Slot(4, 8, 2))
    with pytest.raises(InvalidArch, match=r"^entry 1 \(1\): 1: candidate 'MAX' cannot be built"):
        construct(net, [("arch_desc", {"arch_desc": ["MAX", "MAX"]})])


def test_empty_slots_inside_of_mutables_are_told() -> None:
    net = nn.Sequential(Repeat(template(), (1, 2)), Slot(4))
    with pytest.raises(InvalidSpace, match=r"slot '0\.0\.1' .* is empty"):
        construct(net, [("arch_desc", {"arch_desc": [{"0": 1}, "NC3"]})])
    with pytest.raises(InvalidSpace, match="is empty: fill it first"):
        construct(net, [("params", {"arch_desc": {"0": 1}})])


@pytest.mark.parametrize(
    ("specs", "error", "said"),
    [
        (3, TypeError, r"expected a constructor or a list of them, .*, got 3"),
        ("op", TypeError, "'op'.*missing"),
        ([3], TypeError, "expected a name"),
        (["opp"], UnknownName, "did you mean 'op'"),
        (["op"], TypeError, "'op'.*missing"),
        ([("op", {"opp": "NC3"})], ValueError, "no option 'opp'; did you mean 'op'"),
        ([lambda _: None], TypeError, "constructor 0 .* must return an nn.Module"),
    ],
)
def test_chains_that_cannot_be_are_refused(specs: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        construct(template(), specs)


@pytest.mark.parametrize(
    "lone",
    [
        lambda model: construct(model, [("op", {"op": "NC3"})]),
        ("op", {"op": "NC3"}),
        ["op", {"op": "NC3"}],
        {"type": "op", "args": {"op": "NC3"}},
    ],
)
def test_one_constructor_needs_no_list(lone: Any) -> None:
    assert not empty_slots(construct(template(), lone))


# Texts and files.


def test_texts_and_files_are_read(tmp_path: Path) -> None:
    model = mixed(template())
    flat = [["NC3"], ["IDT"]]
    (tmp_path / "a.json").write_text(json.dumps(flat))
    (tmp_path / "a.yaml").write_text("- [NC3]\n- [IDT]\n")
    for given_as in (
        flat,
        json.dumps(flat),
        "- [NC3]\n- [IDT]",
        tmp_path / "a.json",
        str(tmp_path / "a.yaml"),
    ):
        net = construct(model, [("arch_desc", {"arch_desc": given_as})])
        assert list(net.state_dict()) == list(freeze(model, {"1": "NC3", "2": "IDT"}).state_dict())
    with pytest.raises(FileNotFoundError):
        parsed("nowhere.json")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "[]", r"ends in one of .*a\.txt"),
        ("a.json", "- 1", r"a\.json: expected JSON"),
        ("a.json", '{"a": 1, "a": 2}', "'a' stands twice"),
        ("a.yaml", "a: 1\na: 2", "stands twice"),
        ("a.yaml", "a: &x [1]\nb: *x", "no aliases"),
        ("a.yaml", "a: [", r"a\.yaml: expected JSON or YAML"),
        ("a.yaml", "[" * 1500, "expected JSON or YAML"),
        ("a.yml", "!!python/object:os.system {}", "expected JSON or YAML"),
    ],
)
def test_files_that_say_nothing_are_refused(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidArch, match=said):
        parsed(tmp_path / name)
    if name != "a.txt":
        (tmp_path / name).write_bytes(b"\xff\xfe\xff")
        with pytest.raises(InvalidArch, match="expected UTF-8"):
            parsed(str(tmp_path / name))


WORDS = st.sampled_from(["NC3", "IDT", "NC", "k1", "skip", "conv", "deep", "0", "1", "first", "a"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
VICTIMS = {name: build(name) for name in ("layers", "inputs", "rows", "cells", "any cells")} | {
    "slots": mixed(template(None, "a", "a")).double(),
    "template": template(None, None, None).double(),
}


@st.composite
def bent(draw: st.DrawFn) -> tuple[str, str, Any]:
    """Nearly a description: a true one, a part of which is something else."""
    name, (exporter, constructor) = draw(st.sampled_from([*VICTIMS])), draw(st.sampled_from(PAIRS))
    model = VICTIMS["slots" if name == "template" else name]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    tree = json.loads(json.dumps(export(model, space_of(model).sample(rng), exporter)))
    at = tree
    while isinstance(at, list | dict) and at:
        key = draw(st.sampled_from([*at] if isinstance(at, dict) else range(len(at))))
        if draw(st.booleans()) or not isinstance(at[key], list | dict):
            at[key] = draw(JSON)
            break
        at = at[key]
    return name, constructor, tree


@settings(max_examples=100, deadline=None)
@given(
    bent()
    | st.tuples(st.sampled_from([*VICTIMS]), st.sampled_from(READERS), JSON)
    | st.tuples(st.sampled_from([*VICTIMS]), st.sampled_from(READERS), JSON.map(json.dumps))
)
def test_whatever_stands_in_a_description_is_read_or_refused(case: tuple[str, str, Any]) -> None:
    name, constructor, arch_desc = case
    model = VICTIMS[name]
    if name == "template" and constructor == "params":
        return  # refused whatever it is: no label decides an empty slot
    try:
        net = construct(model, [(constructor, {"arch_desc": arch_desc})])
    except InvalidArch:
        pass
    else:
        assert isinstance(net, nn.Module)
    if name == "template":
        assert len(empty_slots(model)) == 3
    else:
        activate(model, space_of(model).sample(np.random.default_rng(0)))
        model(X)


# The example, but for its search, which takes longer than a test may.

EXAMPLE = Path(__file__).parent.parent / "examples" / "own_space.py"


def test_the_example_shows_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    cells = EXAMPLE.read_text(encoding="utf-8").split("# %%")
    names: dict[str, Any] = {"__name__": "own_space"}
    for cell in cells:
        if "raynas.search(" not in cell:
            exec(f"# %%{cell}" if cell.startswith((" ", "\n")) else cell, names)
    told = capsys.readouterr().out
    assert told.count("the same network: True") == 3
    assert "largest difference of their outputs: 0.0\n" in told
    assert f"{names['space'].size()} architectures of these decisions" in told
    assert sum("raynas.search(" in cell for cell in cells) == 1
