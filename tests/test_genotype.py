"""Genotypes: published ones read and print back, and faulty ones are refused where they err."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raynas.core.arch import Arch, Atom
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Subset
from raynas.core.errors import InvalidArch
from raynas.nn.genotype import OPERATIONS, Genotype, from_genotype, to_genotype

# Liu et al., 2019, arXiv:1806.09055, second order, as its code prints it
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


def cells(nodes: int) -> ArchSpace:
    """Return the space of DARTS cells, written independently of the code under test."""
    decisions = []
    for kind in ("normal", "reduce"):
        for node in range(nodes):
            sources = ("s0", "s1", "n0", "n1", "n2", "n3")[: node + 2]
            label = f"{kind}/n{node}"
            opens: dict[Atom, ArchSpace] = {
                s: ArchSpace((Choice(f"{label}/op/{s}", OPERATIONS),)) for s in sources
            }
            decisions.append(Subset(f"{label}/from", sources, 2, opens))
    return ArchSpace(tuple(decisions))


def test_a_published_genotype_is_read() -> None:
    arch = from_genotype(DARTS_V2)
    cells(4).check(arch)
    assert arch["normal/n0/from"] == ("s0", "s1")
    assert arch["normal/n2/op/s0"] == "skip_connect"
    assert arch["normal/n2/op/s1"] == "sep_conv_3x3"
    assert arch["normal/n3/from"] == ("s0", "n0")
    assert arch["normal/n3/op/n0"] == "dil_conv_3x3"
    assert arch["reduce/n1/from"] == ("s1", "n0")
    assert arch["reduce/n3/op/n0"] == "skip_connect"
    assert len(arch) == 2 * 4 * 3


def test_it_prints_as_papers_do_and_reads_back() -> None:
    arch = from_genotype(DARTS_V2)
    genotype = to_genotype(arch)
    assert genotype.normal[4:6] == [("skip_connect", 0), ("sep_conv_3x3", 1)]  # in source order
    text = repr(genotype)
    assert text.startswith("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ")
    assert text.endswith("('skip_connect', 2)], reduce_concat=range(2, 6))")
    for written in (genotype, tuple(genotype), text, f"07/01 10:00 genotype = {text}\n"):
        assert from_genotype(written) == arch


def test_another_library_s_genotype_is_read() -> None:
    theirs = namedtuple("theirs", "normal normal_concat reduce reduce_concat")
    ours = to_genotype(from_genotype(DARTS_V2))
    assert from_genotype(theirs(*ours)) == from_genotype(DARTS_V2)


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_every_architecture_survives_the_round_trip(nodes: int, seed: int) -> None:
    arch = cells(nodes).sample(np.random.default_rng(seed))
    genotype = to_genotype(arch, nodes)
    assert from_genotype(genotype, nodes) == arch
    assert from_genotype(repr(genotype), nodes) == arch
    swapped = [pair for i in range(nodes) for pair in genotype.normal[2 * i : 2 * i + 2][::-1]]
    assert from_genotype(genotype._replace(normal=swapped), nodes) == arch


def changed(field: str, value: Any) -> Genotype:
    return to_genotype(from_genotype(DARTS_V2))._replace(**{field: value})


def with_pair(place: int, pair: Any) -> Genotype:
    pairs: list[Any] = list(to_genotype(from_genotype(DARTS_V2)).normal)
    return changed("normal", [*pairs[:place], pair, *pairs[place + 1 :]])


@pytest.mark.parametrize(
    ("genotype", "told"),
    [
        (
            with_pair(3, ("sep_conv_3x4", 1)),
            "normal[3], node 1: no operation is named 'sep_conv_3x4'; did you mean 'sep_conv_3x3'?",
        ),
        (with_pair(0, ("none", 0)), "no operation is named 'none'; "),
        (with_pair(1, ("skip_connect", 2)), "normal[1], node 0: expected a source from 0 to 1"),
        (with_pair(7, ("skip_connect", 5)), "node 3: expected a source from 0 to 4, got 5"),
        (with_pair(1, ("skip_connect", -1)), "got -1"),
        (with_pair(1, ("skip_connect", True)), "got True"),
        (with_pair(1, ("skip_connect", "1")), "got '1'"),
        (with_pair(1, ("skip_connect", 0)), "normal, node 0: expected two sources, got 0 twice"),
        (with_pair(1, "skip_connect"), "expected an (operation, source) pair, got 'skip_connect'"),
        (with_pair(1, (1, "skip_connect")), "expected an (operation, source) pair"),
        (changed("reduce", []), "reduce: expected 8 pairs, two for each node, got 0 pairs"),
        (changed("reduce", 8), "reduce: expected 8 pairs, two for each node, got 8"),
        (changed("normal_concat", range(2, 7)), "normal_concat: expected range(2, 6), got range("),
        (changed("reduce_concat", [3, 4, 5]), "reduce_concat: expected range(2, 6), got [3, 4, 5]"),
        (changed("reduce_concat", range(2, 10**12)), "reduce_concat: expected range(2, 6)"),
        (("normal", "reduce"), "expected a genotype of normal, normal_concat, reduce, reduce_con"),
        (None, "expected a genotype of normal"),
    ],
)
def test_a_faulty_genotype_is_refused_where_it_errs(genotype: Any, told: str) -> None:
    with pytest.raises(InvalidArch) as caught:
        from_genotype(genotype)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DARTS_V2",
        "Genotype(",
        "Genotype()",
        "Genotype(normal=[], normal=[])",
        "Genotype(normal=[], concat=range(2, 6))",
        "Genotype(**{})",
        "Genotype(*[1, 2, 3, 4])",
        "Genotype(normal=__import__('os').getcwd())",
        "Genotype(1, 2, 3, range('a'))",
        "Genotype(1, 2, 3, range())",
        "Genotype(1, 2, 3, 4)(5)",
        "Genotype(" + "(" * 1000,
        f"{DARTS_V2}; print(1)",
        "NotAGenotype(1, 2, 3, 4)",
    ],
)
def test_a_text_that_is_no_genotype_is_refused(text: str) -> None:
    with pytest.raises(InvalidArch, match=r"expected |no call"):
        from_genotype(text)


@given(st.text())
@example("\0")
@example("Genotype(\\d)")
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(InvalidArch):
        from_genotype(text)


def test_nothing_in_a_text_is_executed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidArch, match="malformed node"):
        from_genotype("Genotype(normal=print('executed'))")
    assert capsys.readouterr().out == ""


def test_what_is_no_architecture_of_cells_has_no_genotype() -> None:
    arch = dict(from_genotype(DARTS_V2))
    with pytest.raises(InvalidArch, match="'normal/n0/op/s0' is 'none', not one of its options"):
        to_genotype({**arch, "normal/n0/op/s0": "none"})
    with pytest.raises(InvalidArch, match="no decision is labelled 'normal/n3/from'"):
        to_genotype(arch, nodes=3)
    with pytest.raises(InvalidArch, match="'normal/n0/from' is not decided"):
        to_genotype(Arch({}))
