"""Blocks scored once: exact sums, integer programs against brute force, and runs that go on."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.block_division import blocks_of
from raynas.core.blocks import Blocks, largest
from raynas.core.constraints import Constraint
from raynas.core.decision import Choice
from raynas.core.errors import Unfinished
from raynas.data.module import DataModule, Splits
from raynas.results.analysis import kendall
from raynas.supernet.block_amounts import Amounts
from raynas.supernet.block_bounds import bounds_of
from raynas.supernet.block_program import BlockProgram
from raynas.supernet.scoring import SubnetScorer
from tests.inline import INLINE

LAYERS = 3
INNER = ArchSpace((Choice("width", (4, 2)),))


def layers(count: int) -> ArchSpace:
    """Return layers that may be left out, of three widths, and the width of what joins them."""
    return ArchSpace(
        (
            Choice("residual", (8, 4)),
            *(
                Choice(f"{i}.depth", (1, 0), {1: ArchSpace((Choice(f"{i}.width", (16, 8, 4)),))})
                for i in range(count)
            ),
        )
    )


def macs(arch: Mapping[str, Any]) -> float:
    """Return multiply-accumulates: a layer's width times the residual's."""
    widths = [value for label, value in arch.items() if label.endswith(".width")]
    return float(10 * arch["residual"] + arch["residual"] * sum(widths))


SPACE = layers(LAYERS)


# --- blocks ---------------------------------------------------------------------------------------


def blocks_by_macs(max_variants: int) -> Blocks:
    return blocks_of(
        SPACE, largest(SPACE), costs=lambda a: {"macs": macs(a)}, max_variants=max_variants
    )


def test_what_costs_together_is_a_block_and_what_joins_all_is_tied_to_each() -> None:
    blocks = blocks_by_macs(16)
    assert blocks.held == ()
    assert blocks.sizes == (2, *[4] * LAYERS)
    assert blocks.ties == tuple((0, i + 1) for i in range(LAYERS))
    assert blocks.parent == {"residual": 8, **{f"{i}.depth": 1 for i in range(LAYERS)}} | {
        f"{i}.width": 16 for i in range(LAYERS)
    }
    picks = [blocks.pick(arch) for arch in SPACE]
    assert None not in picks
    assert [blocks.arch(pick) for pick in picks if pick is not None] == list(SPACE)
    assert set(blocks.space_of(SPACE)) == set(SPACE)
    assert len(list(blocks.singles())) == 1 + 3 * LAYERS
    # a block of all of them is exact, and dearer
    (whole,) = blocks_by_macs(200).blocks
    assert len(whole.variants) == SPACE.size() == 128


def test_what_costs_with_two_others_at_once_stays_as_in_the_whole() -> None:
    def costs(arch: Mapping[str, Any]) -> dict[str, float]:
        return {
            "macs": macs(arch) + arch["residual"] * arch.get("0.width", 0) * arch.get("1.width", 0)
        }

    blocks = blocks_of(SPACE, largest(SPACE), costs=costs, max_variants=8)
    assert blocks.held == ("residual",)
    assert blocks.ties == ((0, 1),)
    assert {blocks.pick(arch) for arch in SPACE if arch["residual"] == 4} == {None}
    spanned = [arch for arch in SPACE if arch["residual"] == 8]
    assert set(blocks.space_of(SPACE)) == set(spanned)
    assert len(bounds_of(blocks, costs, [Constraint("macs", high=300.0)]).amounts) == 1


def test_decisions_with_a_label_in_common_are_one_block() -> None:
    shared = ArchSpace((Choice("kernel", (3, 5)),))
    space = ArchSpace(
        (
            Choice("a", ("conv", "skip"), {"conv": shared}),
            Choice("b", ("conv", "skip"), {"conv": shared}),
            Choice("c", (1, 2)),
        )
    )
    blocks = blocks_of(space, largest(space))
    assert [block.space.labels for block in blocks.blocks] == [("a", "kernel", "b"), ("c",)]
    with pytest.raises(ValueError, match="no block has between 2 and max_variants=2"):
        blocks_of(
            ArchSpace(space.choices[:2]), largest(ArchSpace(space.choices[:2])), max_variants=2
        )


# --- the program ----------------------------------------------------------------------------------


def test_the_program_equals_brute_force() -> None:
    """Forty programs of random scores and costs, with one to three bounds, ten best each."""
    rng, kept = np.random.default_rng(0), 0
    for _ in range(40):
        sizes = rng.integers(2, 5, size=int(rng.integers(1, 6)))
        unit = 10.0 ** rng.integers(-6, 6)
        scores = [rng.standard_normal(n) * unit for n in sizes]
        if rng.random() < 0.3:
            scores[0][-1] = np.nan
        amounts, every = [], list(itertools.product(*(range(n) for n in sizes)))
        for name in range(int(rng.integers(1, 4))):
            added = tuple(
                np.concatenate([[0.0], -rng.integers(0, 10**6, size=n - 1)]) for n in sizes
            )
            one = Amounts(Constraint(str(name), high=0.0), 5e6, added)
            values = sorted(one.of(pick) for pick in every)
            low = values[int(rng.integers(len(values) // 2))] if rng.random() < 0.3 else None
            bound = Constraint(str(name), low=low, high=values[-1 - len(values) // 5])
            amounts.append(replace(one, constraint=bound))
        inside = [
            pick
            for pick in every
            if all(one.constraint.allows(one.of(pick)) for one in amounts)
            and np.isfinite(total(scores, pick))
        ]
        inside.sort(key=lambda pick: -total(scores, pick))
        program, found = BlockProgram(scores, amounts), list[tuple[int, ...]]()
        while len(found) < min(10, len(inside) + 1):
            pick = program.best(found)
            if pick is None:
                break
            found.append(pick)
        assert found == inside[:10]
        kept += len(found)
    assert kept > 200, "bounds left too little to compare"


def total(scores: Any, pick: tuple[int, ...]) -> float:
    """Return the sum of a combination."""
    return float(sum(score[n] for score, n in zip(scores, pick, strict=True)))


@dataclass(frozen=True)
class Network:
    """Stages of residual layers: their widths, the layers' own and kernels; and what they cost."""

    stages: int
    layers: int
    pixels: tuple[int, ...]

    @property
    def space(self) -> ArchSpace:
        inner = [
            [Choice(f"{s}.{i}.width", (12, 8, 4)), Choice(f"{s}.{i}.kernel", (5, 3))]
            for s in range(self.stages)
            for i in range(self.layers)
        ]
        names = [f"{s}.{i}" for s in range(self.stages) for i in range(self.layers)]
        opened = [
            Choice(f"{name}.depth", (1, 0), {1: ArchSpace(tuple(choices))})
            for name, choices in zip(names, inner, strict=True)
        ]
        return ArchSpace(
            (*(Choice(f"{s}.residual", (16, 12, 8)) for s in range(self.stages)), *opened)
        )

    def costs(self, arch: Mapping[str, Any]) -> dict[str, float]:
        """Return products of widths, of stages that follow each other too, and a peak."""
        widths = [arch[f"{s}.residual"] for s in range(self.stages)]
        summed = sum(a * b for a, b in itertools.pairwise(widths)) + 7 * widths[0]
        peaks = [float(width * pixels) for width, pixels in zip(widths, self.pixels, strict=True)]
        for s, i in itertools.product(range(self.stages), range(self.layers)):
            inner, kernel = arch.get(f"{s}.{i}.width", 0), arch.get(f"{s}.{i}.kernel", 0)
            summed += inner * (2 * widths[s] + kernel**2)
            if inner:
                peaks.append(float((2 * widths[s] + inner) * self.pixels[s]))
        return {"macs": float(summed), "activation_bytes": max(peaks)}


NETWORKS = [
    Network(1, 3, (3,)),
    Network(2, 2, (3, 2)),
    Network(3, 1, (5, 4, 3)),
]


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (NETWORKS[1], 2),
        *(pytest.param(network, 8, marks=pytest.mark.full) for network in NETWORKS),
    ],
)
def test_the_best_within_bounds_on_products_and_peaks_is_that_of_brute_force(
    network: Network, count: int
) -> None:
    """Random scores and bounds, the ten best each."""
    rng, space, kept = np.random.default_rng(7), network.space, 0
    blocks = blocks_of(space, largest(space), costs=network.costs, max_variants=7)
    assert not blocks.held
    assert len(blocks.ties) == network.stages * (network.layers + 1) - 1
    every = list(itertools.product(*map(range, blocks.sizes)))
    assert len(every) == space.size()
    cost = {pick: network.costs(blocks.arch(pick)) for pick in every}
    for _ in range(count):
        scores = [np.append(0.0, rng.standard_normal(size - 1)) for size in blocks.sizes]
        high = {
            name: float(np.quantile([c[name] for c in cost.values()], rng.uniform(0.02, 0.5)))
            for name in ("macs", "activation_bytes")
        }
        constraints = [Constraint(name, high=value) for name, value in high.items()]
        if rng.random() < 0.5:
            constraints[1] = Constraint(
                "activation_bytes", 0.6 * high["activation_bytes"], high["activation_bytes"]
            )
        inside = [p for p in every if all(c.holds(cost[p]) for c in constraints)]
        inside.sort(key=lambda pick: -total(scores, pick))
        bounds = bounds_of(blocks, network.costs, constraints)
        program, found = BlockProgram(scores, bounds.amounts, bounds.peaks), list[Any]()
        while len(found) < 10 and (pick := program.best(found)) is not None:
            found.append(pick)
        assert found == inside[:10]
        kept += len(found)
    assert kept > 7 * count, "bounds left too little to compare"


def test_bounds_that_blocks_do_not_tell_or_cannot_keep_are_refused() -> None:
    def costs(arch: Arch) -> dict[str, float]:
        total = macs(arch)
        return {"macs": total, "params": total / 8, "parity": float((total // 8) % 3)}

    blocks = blocks_by_macs(16)
    with pytest.raises(ValueError, match="parity is no sum over blocks, nor does each block raise"):
        bounds_of(blocks, costs, [Constraint("parity", high=0.5)])
    least = macs(Arch({"residual": 4}))
    with pytest.raises(ValueError, match=r"the smallest macs is 40$"):
        bounds_of(blocks, costs, [Constraint("macs", high=least - 1)])
    with pytest.raises(ValueError, match=r"largest macs is 464$"):
        bounds_of(blocks, costs, [Constraint("macs", low=1000.0)])
    both = [Constraint("macs", high=200.0), Constraint("params", low=30.0)]
    with pytest.raises(ValueError, match="no combination of blocks keeps all of them"):
        bounds_of(blocks, costs, both)
    with pytest.raises(ValueError, match=r"constraints 41 <= macs <= 47: no combination"):
        bounds_of(blocks, costs, [Constraint("macs", 41.0, 47.0)])
    assert len(bounds_of(blocks, costs, [Constraint("macs", high=least)]).amounts) == 1
    network = NETWORKS[0]
    peaks = blocks_of(network.space, largest(network.space), costs=network.costs, max_variants=7)
    with pytest.raises(ValueError, match=r"keeps it; the smallest activation_bytes is 24$"):
        bounds_of(peaks, network.costs, [Constraint("activation_bytes", high=20.0)])
    with pytest.raises(ValueError, match=r"keeps it; the largest activation_bytes is 132$"):
        bounds_of(peaks, network.costs, [Constraint("activation_bytes", low=133.0)])


# --- searches -------------------------------------------------------------------------------------

EFFECT = np.random.default_rng(3).standard_normal((LAYERS, 4))


def additive(arch: Arch) -> dict[str, float]:
    """Return a loss that is a sum over layers."""
    number: dict[Any, int] = {None: 0, 4: 1, 8: 2, 16: 3}
    loss = sum(EFFECT[i, number[arch.get(f"{i}.width")]] for i in range(LAYERS))
    return {"loss": 10.0 + float(loss) + 0.1 * float(arch["residual"] == 4)}


def test_a_search_asks_each_variant_once_then_the_best_sums_and_solves_without_asking(
    tmp_path: Path,
) -> None:
    asked: list[Arch] = []

    def evaluator(arch: Arch) -> dict[str, float]:
        asked.append(arch)
        return additive(arch)

    common: dict[str, Any] = {"evaluator": evaluator, "objectives": {"loss": "min"}, "ray": INLINE}
    out = str(tmp_path / "run")
    result = raynas.search(SPACE, "block_library", trials=6, out=out, **common)
    with pytest.raises(Unfinished, match=r"5 of 11 architectures .* are not scored"):
        result.solve()
    result = raynas.search(SPACE, "block_library", trials=14, out=out, resume=True, **common)
    assert len(asked) == len(set(asked)) == 14
    library, best = asked[:11], asked[11:]
    assert all(sum(a.get(k) != v for k, v in largest(SPACE).items()) <= 2 for a in library)
    order = sorted(SPACE, key=lambda arch: additive(arch)["loss"])
    assert best == [arch for arch in order if arch not in library][:3]
    rows = result.trials.iloc[11:]
    assert (rows["predicted"] - rows["objective"]).abs().max() < 1e-12
    solved = result.solve(top=20)
    assert [Arch.from_json(text) for text in solved["arch"]] == order[:20]
    assert solved["predicted"].to_numpy() == pytest.approx(
        [-additive(arch)["loss"] for arch in order[:20]], abs=1e-12
    )
    assert len(asked) == 14
    other = raynas.search(SPACE, "random", trials=1, out=str(tmp_path / "other"), **common)
    with pytest.raises(ValueError, match="searched by random: search with algo='block_library'"):
        other.solve()


def test_bounds_that_only_evaluations_tell_are_kept_by_sums_of_what_variants_measured(
    tmp_path: Path,
) -> None:
    def evaluator(arch: Arch) -> dict[str, float]:
        return {**additive(arch), "seconds": cost(arch)}

    def cost(arch: Arch) -> float:
        return 1.0 + sum(float(str(v)) for v in arch.values())

    result = raynas.search(
        SPACE,
        "block_library",
        evaluator=evaluator,
        objectives={"loss": "min"},
        constraints="seconds<=25",
        trials=17,
        ray=INLINE,
        out=str(tmp_path),
    )
    order = sorted((a for a in SPACE if cost(a) <= 25), key=lambda arch: additive(arch)["loss"])
    library = [Arch.from_json(text) for text in result.trials["arch"][:11]]
    found = result.trials.iloc[11:]
    assert set(found["status"]) == {"completed"}
    best = [arch for arch in order if arch not in library][:6]
    assert [Arch.from_json(text) for text in found["arch"]] == best


def test_a_run_that_is_killed_while_it_scores_evaluates_no_variant_again(tmp_path: Path) -> None:
    log, out = tmp_path / "log", str(tmp_path / "run")

    def evaluator(arch: Arch) -> dict[str, float]:
        with log.open("a") as file:
            file.write(arch.key + "\n")
        if os.getpid() != parent and len(log.read_text().split()) == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return additive(arch)

    def search(**more: Any) -> raynas.Result:
        return raynas.search(
            SPACE,
            "block_library",
            evaluator=evaluator,
            objectives={"loss": "min"},
            trials=13,
            out=out,
            ray=INLINE,
            **more,
        )

    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            search()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    before = log.read_text().split()
    result = search(resume=True)
    after = log.read_text().split()[len(before) :]
    assert not set(after) & set(before[:6]), "these were told"
    assert after[0] == before[6], "what was in flight comes first"
    assert len(before) + len(after) == 14
    assert result.trials["arch_key"].nunique() == 13


def test_a_metric_that_is_not_measured_is_named(tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "evaluator": additive,
        "objectives": {"loss": "min"},
        "ray": INLINE,
        "out": str(tmp_path),
    }
    with pytest.raises(ValueError, match=r"no metric 'lost'; did you mean 'loss'\?"):
        raynas.search(SPACE, "block_library", options={"score": "lost"}, **common)
    with pytest.raises(ValueError, match="depth_score='influence' reads the metric 'influence'"):
        raynas.search(SPACE, "block_library", options={"depth_score": "influence"}, **common)


# --- a converted model ----------------------------------------------------------------------------


class Branches(nn.Module):
    """A sum of branches, none of which reads another: what blocks add is exactly a sum."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6)) for _ in range(3)
        )
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return numbers, shape (batch, 1)."""
        total = x
        for branch in self.branches:
            total = total + branch(x)
        out: Tensor = self.head(total)
        return out


class Doubles(DataModule):
    """96 rows of float64 to calibrate and as many to validate."""

    name, input_shape, batch_size, num_classes = "doubles", (6,), 32, None

    def load(self) -> Splits:
        """Return the splits."""
        x = torch.randn(192, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        return Splits(*((part, part[:, :1]) for part in x.split(96)))

    @property
    def signature(self) -> Any:
        """Shape and type of an example."""
        return {"shape": [6], "dtype": "float64"}


def mean_of(output: Tensor, _target: Tensor) -> Tensor:
    """Return a loss that is linear in the output."""
    return output.double().mean()


def test_sums_are_exact_where_branches_are_and_the_best_within_bounds_is_the_best(
    tmp_path: Path,
) -> None:
    data = Doubles()
    example = data.load().train[0][:2]
    space = raynas.elastic(Branches().double(), example, ffn=[0.25, 0.5], depth=True, skip="head")
    task = raynas.Task(loss=mean_of, objective="loss:min")
    bound = 0.6 * raynas.cost(space, largest(space.arch_space)).macs

    result = raynas.search(
        space,
        "block_library",
        data=data,
        task=task,
        supernet={"epochs": 0},
        constraints={"macs": (None, bound)},
        trials=13,
        ray=INLINE,
        out=str(tmp_path),
    )
    parent = result.trials.iloc[0]
    assert parent["status"] == "infeasible"
    assert parent["macs"] > bound
    variants, found = result.trials.iloc[:10], result.trials.iloc[10:]
    assert set(found["status"]) == {"completed"}
    assert (found["predicted"] - found["objective"]).abs().max() < 1e-12
    # by brute force, from the rows of single variants
    loss, cost = (
        {r.arch_key: getattr(r, m) for r in variants.itertuples()} for m in ("loss", "macs")
    )
    blocks = blocks_of(space.arch_space, largest(space.arch_space))
    base = parent["arch_key"]

    def added(pick: tuple[int, ...], of: Mapping[Any, Any]) -> float:
        singles = [
            blocks.arch([n if i == at else 0 for i in range(len(pick))]).key
            for at, n in enumerate(pick)
        ]
        return float(of[base] + sum(of[single] - of[base] for single in singles))

    every = itertools.product(*(range(len(block.variants)) for block in blocks.blocks))
    inside = sorted((added(p, loss), p) for p in every if added(p, cost) <= bound)
    best = [blocks.arch(pick).key for _, pick in inside if blocks.arch(pick).key not in loss]
    assert list(found["arch_key"]) == best[:3]
    again = result.solve({"macs": (None, 0.7 * bound)}, top=1)
    tight = [p for _, p in inside if added(p, cost) <= 0.7 * bound]
    assert again["arch_key"][0] == blocks.arch(tight[0]).key
    assert again["macs"][0] == added(tight[0], cost)


# --- beside the whole -----------------------------------------------------------------------------


class Layer(nn.Module):
    """A layer that adds to what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return x and what the layer adds."""
        out: Tensor = x + self.down(torch.relu(self.up(self.norm(x))))
        return out


class Terms(nn.Module):
    """A layer that passes its input on, and a term of a sum, of 8x8 digits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.first = nn.Linear(64, 8), Layer(8)
        self.second = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of ten classes."""
        x = self.first(self.stem(nn.functional.avg_pool2d(x, 2).flatten(1)))
        out: Tensor = self.head(x + self.second(x))
        return out


@pytest.fixture(scope="module")
def digits(
    tmp_path_factory: pytest.TempPathFactory,
    local_ray: None,  # noqa: ARG001 - a fixture asks for another
) -> tuple[Terms, raynas.Result]:
    """A model and a run over its blocks on two workers, by the weights that the model has."""
    model = Terms()
    space = raynas.elastic(model, torch.randn(2, 1, 16, 16), ffn=[0.5], depth=True)
    result = raynas.search(
        space,
        "block_library",
        data="digits",
        evaluator=("shared", {"divergence": True, "influence": True}),
        supernet={"epochs": 0},
        objectives={"divergence": "min"},
        options={"depth_score": "influence"},
        constraints="params<1000",
        trials=8,
        out=str(tmp_path_factory.mktemp("digits")),
    )
    return model, result


def test_divergence_and_influence_are_those_of_the_definition(
    digits: tuple[Terms, raynas.Result],
) -> None:
    model, result = digits
    rows = {row["arch"]: row for row in result.trials.to_dict("records")}
    whole = rows[largest(result.rebuilt.space.arch_space).to_json()]
    assert (whole["divergence"], whole["influence"]) == (0.0, 0.0)
    scorer = SubnetScorer(model, *result.rebuilt.data.load().parts()[:2])
    taken, inputs = scorer._train_inputs[:64], scorer._inputs
    with torch.no_grad():
        x = model.stem(nn.functional.avg_pool2d(taken, 2).flatten(1))
        cosines = {"first.depth": (x, y := model.first(x))}
        cosines["second.depth"] = model.head(y), model.head(y + model.second(y))
        for text, row in rows.items():
            arch = Arch.from_json(text)
            lost = [1 - cosine(*pair) for label, pair in cosines.items() if arch[label] == 0]
            assert row["influence"] == pytest.approx(sum(lost), abs=1e-6)
            net = result.model(arch)
            p, q = (m(inputs).double().log_softmax(1) for m in (model, net))
            wanted = (p.exp() * (p - q)).sum(1).mean()
            assert row["divergence"] == pytest.approx(float(wanted), rel=1e-4, abs=1e-7)


def cosine(first: Tensor, other: Tensor) -> float:
    return float(nn.functional.cosine_similarity(first, other, dim=1).mean())


def test_depth_by_influence_shares_what_layers_lose(digits: tuple[Terms, raynas.Result]) -> None:
    _, result = digits
    table = result.trials.set_index("arch")
    assert table["predicted"].notna().sum() == 8 - 5, (
        "combinations wait for the parent and 4 variants"
    )
    skips = table[(table["influence"] > 0) & table["predicted"].isna()]
    assert len(skips) == 2
    expected = dict(-skips["influence"] / skips["influence"].sum() * skips["divergence"].sum())
    solved = result.solve([], top=9)
    gains = dict(zip(solved["arch"], solved["gain"], strict=True))
    assert {text: gains[text] for text in expected} == pytest.approx(expected)


def test_verify_tells_how_well_sums_order_before_and_after_training(
    digits: tuple[Terms, raynas.Result],
) -> None:
    model, result = digits
    found = result.verify(top=2, seeds=1, options={"epochs": 1, "teacher": model}, ray=INLINE)
    table = found.table
    assert len(table) == 4
    assert table["sum"].notna().all()
    assert found.sums_before == kendall(table["sum"].to_numpy(), table["cheap"].to_numpy())
    assert found.sums_after == kendall(table["sum"].to_numpy(), table["mean"].to_numpy())
    assert "sums over blocks and cheap score" in str(found)
    assert "sums over blocks and stand-alone score" in str(found)


def test_what_cannot_be_compared_with_the_whole_is_refused(tmp_path: Path) -> None:
    common: dict[str, Any] = {"trials": 1, "ray": INLINE, "out": str(tmp_path)}
    with pytest.raises(ValueError, match="influence is of layers that a converted model"):
        raynas.search("mlp", "random", evaluator=("shared", {"influence": True}), **common)
    with pytest.raises(ValueError, match="those of mlp are not trained"):
        raynas.search("mlp", "random", epochs=0, **common)
    space = raynas.elastic(Terms(), torch.randn(2, 1, 16, 16), ffn=[0.5])
    with pytest.raises(ValueError, match="epochs=0 trains nothing, so leave out lr"):
        raynas.search(space, "random", supernet={"epochs": 0, "lr": 0.1}, **common)
