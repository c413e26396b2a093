"""Few architectures that hold every option of a space."""

from __future__ import annotations

import pytest

from raynas.core.archspace import ArchSpace
from raynas.core.covering import covering
from raynas.core.decision import Choice, Subset

INNER = ArchSpace.of(kernel=(1, 3, 5), act=("relu", "gelu"))
SPACES = {
    "plain": ArchSpace.of(a=tuple(range(7)), b=("x", "y")),
    "nested": ArchSpace((Choice("op", ("skip", "conv", "pool"), {"conv": INNER}),)),
    "pairs": ArchSpace((Subset("two", tuple(range(5)), 2, {3: INNER}),)),
    "any": ArchSpace((Subset("some", ("a", "b", "c"), None),)),
    "one": ArchSpace.of(only=(3,)),
}
LEAST = {"plain": 7, "nested": 7, "pairs": 3, "any": 1, "one": 1}  # counted by hand


@pytest.mark.parametrize("name", SPACES)
def test_every_option_is_there(name: str) -> None:
    space = SPACES[name]
    archs = list(covering(space))
    for arch in archs:
        space.check(arch)
    for label, decision in space.decisions.items():
        values = [arch[label] for arch in archs if label in arch]
        taken = {o for v in values for o in (v if isinstance(v, tuple) else (v,))}
        assert taken == set(decision.options)
    assert LEAST[name] <= len(archs) <= 3 * LEAST[name]
    assert archs == list(covering(space))
