"""Fixed architectures: every form reads back, and everything else is refused by label."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raynas.core.arch import Arch, Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidArch
from raynas.core.fixed import read_arch, write_arch

FLAT = ArchSpace.of(op=["conv3", "conv5", "skip"], width=[16, 32], layer=[0, 1, 2], bias=[True])
KERNEL = ArchSpace((Choice("kernel", (3, 5, 7)), Choice("bias", (True, False))))
CONDITIONAL = ArchSpace(
    (
        Choice("op", ("conv", "dense", "skip"), {"conv": KERNEL, "dense": KERNEL}),
        Choice("rate", (0.0, 0.25, 0.5)),
    )
)
OPENED: dict[Atom, ArchSpace] = {
    s: ArchSpace((Choice(f"op/{s}", ("a", "b", "c")),)) for s in ("s0", "s1", "n0")
}
SUBSET = ArchSpace(
    (
        Subset("from", ("s0", "s1", "n0"), 2, OPENED),
        Subset("skips", (0, 1, 2), None),
        Subset("one", ("x", "y"), 1),
    )
)
ODD = ArchSpace(
    (
        Choice("op", (None, "skip", ())),
        Choice("kernel", ((3, 3), (5, 7), 3, (3,))),
        Subset("from", (None, (1, None), "s0", (2, (3,))), 2),
        Subset("one", ((1, 2), (1,), None, 7), 1),
        Subset("skips", ((0, 1), None), None),
    )
)
SPACES = {"flat": FLAT, "conditional": CONDITIONAL, "subset": SUBSET, "odd": ODD}
TWO = ArchSpace((Choice("op", ("k3", "k5", "skip")), Subset("from", ("s0", "s1", "n0"), 2)))


def forms(decision: Decision, value: Value) -> Iterator[Any]:
    """Yield every way in which one choice may be written."""
    picked: Any = value if isinstance(decision, Subset) else (value,)
    places = [decision.options.index(atom) for atom in picked]
    hot = [at in places for at in range(len(decision.options))]
    yield hot
    if not any(type(option) in (float, tuple) for option in decision.options):
        yield [float(one) for one in hot]
    indices = [] if isinstance(decision, Choice) and places[0] in decision else [places]
    for listed in (list(picked), list(reversed(picked)), tuple(picked), *indices):
        if isinstance(decision, Subset) or tuple(listed) not in decision:  # then it is this one
            yield listed
    if isinstance(decision, Choice):
        yield from (value, *(at for (at,) in indices))


def test_a_value_may_be_written_in_five_forms() -> None:
    wanted = Arch({"op": "k5", "from": ("s0", "n0")})
    for op in ("k5", 1, ["k5"], [1], [False, True, False]):
        for sources in (["s0", "n0"], ["n0", "s0"], ("s0", "n0"), [2, 0], [True, False, True]):
            assert read_arch(TWO, {"op": op, "from": sources}) == wanted


@given(st.sampled_from(sorted(SPACES)), st.integers(0, 2**32 - 1), st.data())
def test_every_form_of_every_architecture_reads_back(
    name: str, seed: int, data: st.DataObject
) -> None:
    space = SPACES[name]
    arch = space.sample(np.random.default_rng(seed))
    reached = space.reached(arch)
    ways = {label: list(forms(reached[label], value)) for label, value in arch.items()}
    written = {label: data.draw(st.sampled_from(ways[label])) for label in ways}
    assert read_arch(space, written).to_json() == arch.to_json()
    shuffled = dict(data.draw(st.permutations(sorted(written.items()))))
    assert read_arch(space, json.dumps(shuffled)).to_json() == arch.to_json()


@given(st.sampled_from(sorted(SPACES)), st.integers(0, 2**32 - 1))
def test_what_is_written_reads_back(name: str, seed: int) -> None:
    arch = SPACES[name].sample(np.random.default_rng(seed))
    read = read_arch(SPACES[name], write_arch(arch))
    assert read.to_json() == arch.to_json()
    assert {label: type(value) for label, value in read.items()} == {
        label: type(value) for label, value in arch.items()
    }


ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.floats()
    | st.sampled_from(["conv3", "conv", "a", "s0", "s1", "n0", "x", ""])
)
LABELS = st.sampled_from(["op", "width", "layer", "bias", "kernel", "rate", "from", "skips", "one"])
MORE_LABELS = LABELS | st.sampled_from(["op/s0", "op/s1", "op/n0", "Op", ""])
CHOICES = st.recursive(
    ATOMS,
    lambda x: st.lists(x, max_size=4) | st.tuples(x) | st.dictionaries(MORE_LABELS, x),
    max_leaves=6,
)


@given(st.sampled_from(sorted(SPACES)), st.dictionaries(MORE_LABELS, CHOICES))
def test_no_description_gives_half_a_result(name: str, description: dict[str, Any]) -> None:
    try:
        arch = read_arch(SPACES[name], description)
    except InvalidArch:
        return
    SPACES[name].check(arch)


@given(st.sampled_from(sorted(SPACES)), st.integers(0, 2**32 - 1), st.data())
def test_one_changed_choice_is_read_or_refused(name: str, seed: int, data: st.DataObject) -> None:
    """Nearly right descriptions: the random ones above seldom get past the first label."""
    space = SPACES[name]
    arch = dict(space.sample(np.random.default_rng(seed)))
    label = data.draw(st.sampled_from(sorted(arch)))
    changed: dict[str, Any] = {**arch, label: data.draw(CHOICES)}
    opened = space.decisions[label].opens.values()
    below = {inner for subspace in opened for inner in ArchSpace(subspace.choices).labels}
    refusal, read = "", Arch({})
    try:
        read = read_arch(space, changed)
    except InvalidArch as error:
        refusal = str(error)
    if refusal:
        assert any(repr(word) in refusal for word in (label, *below))
    else:
        space.check(read)
        assert {**read, label: 0} == {**arch, label: 0}, "the other choices are as they were"


@given(st.text() | st.none() | st.integers() | st.lists(st.integers()))
def test_what_is_no_mapping_is_refused(description: Any) -> None:
    with pytest.raises(InvalidArch, match="expected "):
        read_arch(FLAT, description)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"opp": "k3"}, "no decision is labelled 'opp'; did you mean 'op'?"),
        ({1: "k3"}, "a label is a string, got 1"),
        ({"op": "k33"}, "expected one of ['k3', 'k5', 'skip']; 'k33' is no option; did you mean"),
        ({"op": 3}, "'op' is 3: expected one of ['k3', 'k5', 'skip']; index 3 is not in 0 to 2"),
        ({"op": -1}, "index -1 is not in 0 to 2"),
        (
            {"op": [7]},
            "'op' is [7]: expected one of ['k3', 'k5', 'skip']; index 7 is not in 0 to 2",
        ),
        ({"op": True}, "'op' is True: expected one of ['k3', 'k5', 'skip']; a bool is no option"),
        ({"op": 1.0}, "a float is no option and no index"),
        ({"op": None}, "'op' is None: expected one of"),
        ({"op": {"k3": 1}}, "a dict is no option"),
        ({"op": []}, "'op' is []: expected one of ['k3', 'k5', 'skip']; it has 0 entries"),
        ({"op": ["k3", "k5"]}, "it has 2 entries"),
        ({"op": [["k3"]]}, "a list is no option"),
        ({"op": [(["k3"],)]}, "a tuple is no option"),
        ({"op": [True]}, "it has 1 booleans, expected 3 booleans"),
        ({"op": [True, True, False]}, "2 of its booleans are true"),
        ({"op": [False] * 3}, "0 of its booleans are true"),
        ({"from": "s0"}, "'from' is 's0': expected a list of 2 of ['s0', 's1', 'n0']"),
        ({"from": ["s0"]}, "it has 1 of them"),
        ({"from": [0, 1, 2]}, "it has 3 of them"),
        ({"from": ["s0", "s0"]}, "it has 's0' twice"),
        ({"from": [2, 2]}, "it has 'n0' twice"),
        ({"from": [0, 3]}, "index 3 is not in 0 to 2"),
        ({"from": ["s0", 1]}, "it mixes values and indices"),
        ({"from": ["s0", "s2"]}, "'s2' is no option; known: n0, s0, s1"),
        ({"from": [True, True]}, "it has 2 booleans, expected 3 booleans"),
        ({"from": [True, False, False]}, "it has 1 of them"),
        ({"from": [True, "s0"]}, "a bool is no option and no index"),
    ],
)
def test_a_wrong_entry_is_told_with_its_label(change: dict[Any, Any], told: str) -> None:
    with pytest.raises(InvalidArch) as caught:
        read_arch(TWO, {"op": "k3", "from": ["s0", "s1"], **change})
    assert told in str(caught.value)


def test_a_hint_names_the_option_itself() -> None:
    space = ArchSpace.of(depth=[1, 2], rate=[0.5, 0.25])
    for label, came, told in (("depth", "1", "1"), ("rate", "0.25", "0.25")):
        with pytest.raises(InvalidArch, match=rf"'{came}' is no option; did you mean {told}\?$"):
            read_arch(space, {"depth": 1, "rate": 0.5, label: came})


def test_missing_and_unreached_labels_are_told() -> None:
    with pytest.raises(InvalidArch, match=r"'rate' is not decided; expected one of \[0\.0, 0\.25"):
        read_arch(CONDITIONAL, {"op": "skip"})
    with pytest.raises(InvalidArch, match="'bias' is not decided"):
        read_arch(CONDITIONAL, {"op": 0, "kernel": 3, "rate": 0.5})
    with pytest.raises(InvalidArch, match="'kernel' is decided but not reached"):
        read_arch(CONDITIONAL, {"op": "skip", "rate": 0.5, "kernel": 3})
    with pytest.raises(InvalidArch, match="'op/n0' is decided but not reached"):
        read_arch(
            SUBSET,
            {"from": [0, 1], "op/s0": 0, "op/s1": "c", "op/n0": "a", "skips": [], "one": "x"},
        )


def test_an_integer_is_the_option_if_there_is_one_else_an_index() -> None:
    space = ArchSpace((Choice("n", (2, 1, 4)), Subset("some", (1, 2, 3), None)))

    def read(n: Any, some: Any) -> tuple[Any, Any]:
        arch = read_arch(space, {"n": n, "some": some})
        return arch["n"], arch["some"]

    assert read(1, [1, 2]) == (1, (1, 2))
    assert read(0, [0]) == (2, (1,))
    assert read([4], []) == (4, ())
    with pytest.raises(InvalidArch, match=r"'some' is \[0, 3\].*it mixes values and indices"):
        read(1, [0, 3])


def test_true_is_not_one() -> None:
    flags = ArchSpace((Choice("flag", (True, False)), Subset("flags", (True, False), None)))
    arch = read_arch(flags, {"flag": False, "flags": [False, True]})
    assert arch == Arch({"flag": False, "flags": (True, False)})
    assert read_arch(flags, {"flag": [False, True], "flags": []})["flag"] is False  # multi-hot
    numbers = ArchSpace.of(n=[0, 1])
    for came in (True, [True], 1.0, "one"):
        with pytest.raises(InvalidArch, match="'n' is "):
            read_arch(numbers, {"n": came})


def test_a_single_choice_needs_no_brackets() -> None:
    space = ArchSpace((Subset("from", ("s0", "s1"), 1),))
    assert [read_arch(space, {"from": came})["from"] for came in ("s1", 1, ["s1"])] == [("s1",)] * 3
    with pytest.raises(InvalidArch, match="a bool is no option"):
        read_arch(space, {"from": True})


def test_a_list_that_is_an_option_is_this_one() -> None:
    space = ArchSpace((Choice("k", ((3, 3), (3,), 3)), Subset("s", ((1, 2), (1,), 1), 1)))

    def read(k: Any, s: Any) -> tuple[Any, Any]:
        arch = read_arch(space, {"k": k, "s": s})
        return arch["k"], arch["s"]

    assert read([3, 3], [1, 2]) == ((3, 3), ((1, 2),))
    assert read([[3, 3]], [[1, 2]]) == ((3, 3), ((1, 2),))
    assert read([3], [1]) == ((3,), (1,))
    assert read([[3]], [[1]]) == ((3,), ((1,),))
    assert read(3, 1) == (3, (1,))
    assert read(np.array([3, 3]), np.int64(1)) == ((3, 3), (1,))
    assert read([False, True, False], [False, False, True]) == ((3,), (1,))
    with pytest.raises(InvalidArch, match=r"'k' is \[3, 4\]: expected one of .* 2 entries"):
        read([3, 4], 1)


def test_numbers_of_numpy_are_numbers() -> None:
    space = ArchSpace((Choice("n", (2, 4)), Choice("f", (0.5, True)), Subset("s", (1, 3), None)))
    came = {"n": np.int32(4), "f": np.bool_(True), "s": [np.int64(3), np.int64(1)]}
    assert read_arch(space, came).to_json() == '{"f":true,"n":4,"s":[1,3]}'
    assert read_arch(space, {**came, "n": np.int64(1)})["n"] == 4, "an index"


def test_an_arch_is_checked_and_returned() -> None:
    arch = Arch({"op": "k3", "from": ("s0", "s1")})
    assert read_arch(TWO, arch) is arch
    with pytest.raises(InvalidArch, match="'op' is 1, not one of its options"):
        read_arch(TWO, Arch({"op": 1, "from": ("s0", "s1")}))


@pytest.mark.parametrize("path", [str, Path])
def test_a_file_is_read(path: Callable[[Path], str | Path], tmp_path: Path) -> None:
    arch = Arch({"op": "skip", "from": ("s1", "n0")})
    file = tmp_path / "best.json"
    file.write_text(write_arch(arch))
    assert read_arch(TWO, path(file)) == arch
    file.write_text('{"op": "k3", "op": "k5"}')
    with pytest.raises(InvalidArch, match=r"best\.json: 'op' stands twice"):
        read_arch(TWO, path(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArch, match=r"best\.json' is none"):
        read_arch(TWO, path(file))
    with pytest.raises(FileNotFoundError):
        read_arch(TWO, path(tmp_path / "none.json"))


def test_a_text_that_is_no_json_object_is_told() -> None:
    with pytest.raises(InvalidArch, match=r"'best\.jsn' is none: Expecting value"):
        read_arch(TWO, "best.jsn")
    with pytest.raises(InvalidArch, match=r"expected a JSON object from .* got a list"):
        read_arch(TWO, "[]")
    with pytest.raises(InvalidArch, match="is none"):
        read_arch(TWO, "[" * 100_000)
