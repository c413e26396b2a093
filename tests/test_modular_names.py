"""ModularNAS' names of algorithms mean what they mean there."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

import raynas
from raynas.algorithms.direct_grad_bilevel import DirectGradBilevel
from raynas.algorithms.proxyless import Proxyless
from raynas.core.alias import Alias
from raynas.core.archspace import ArchSpace
from raynas.core.errors import StoreMismatch
from raynas.core.registry import Registry
from raynas.core.sampler import SAMPLERS
from raynas.gradient.mixed.gumbel_sum import GumbelSum
from raynas.setup.algorithms import resolve_one_shot
from raynas.supernet.protocol import ONE_SHOTS
from tests.inline import INLINE
from tests.test_gradient_search import attached, numbers
from tests.toynet import ToyNet

SPACE = ArchSpace.of(a=[1, 2], b=[3, 4, 5])
ADAM = {"type": "Adam", "args": {"lr": 0.01, "betas": [0.9, 0.99], "weight_decay": 0}}


@pytest.mark.parametrize(
    ("alias", "name", "options"),
    [
        ("DARTSOptim", "darts", {"unrolled": True}),
        ("DirectGradOptim", "direct_grad", {}),
        ("DirectGradBiLevelOptim", "direct_grad_bilevel", {}),
        ("DirectGradOptimBiLevel", "direct_grad_bilevel", {}),
        (
            "BinaryGateOptim",
            "proxyless",
            {
                "mode": "two",
                "alpha_lr": 6e-3,
                "alpha_betas": (0.0, 0.999),
                "alpha_weight_decay": 0.0,
                "warmup_epochs": 0,
                "alpha_every": None,
            },
        ),
        (
            "REINFORCEOptim",
            "proxyless_rl",
            {
                "alpha_lr": 3e-4,
                "alpha_betas": (0.5, 0.999),
                "alpha_weight_decay": 1e-3,
                "warmup_epochs": 0,
                "alpha_every": None,
            },
        ),
        (
            "GumbelAnnealingOptim",
            "direct_grad_bilevel",
            {"mixed_op": ["gumbel_sum", {"temperature": 1e4}], "anneal_rate": 0.0015},
        ),
    ],
)
def test_a_name_of_an_algorithm_by_gradients_carries_its_options(
    alias: str, name: str, options: dict[str, Any]
) -> None:
    spec, _ = resolve_one_shot(alias, {}, 1)
    assert (spec.name, spec.options) == (name, options)
    made: Any = ONE_SHOTS.get_builder(alias)(seed=0)
    base = ONE_SHOTS.make(name, seed=0)
    adam = ("alpha_lr", "alpha_betas", "alpha_weight_decay")
    if name != "proxyless":  # whose own differ in their rate alone
        assert [getattr(made, k) for k in adam] == [3e-4, (0.5, 0.999), 1e-3]
    assert type(made) is type(base)


@pytest.mark.parametrize(
    ("alias", "name", "options"),
    [
        (
            "EvolutionOptim",
            "evolution",
            {"population": 100, "selected": 10, "parents": 2, "mutation_prob": 0.01},
        ),
        (
            "RegularizedEvolutionOptim",
            "regularized_evolution",
            {"population": 100, "tournament": 25},
        ),
        ("GridSearchOptim", "grid", {"order": "first_fastest"}),
        ("RandomSearchOptim", "random", {}),
        ("ModelBasedOptim", "predictor", {}),
    ],
)
def test_a_name_of_a_sampler_carries_its_options(
    alias: str, name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    assert SAMPLERS.resolved(alias) == (name, options)
    result = raynas.search(
        SPACE,
        alias,
        evaluator=lambda arch: {"accuracy": float(arch["a"])},
        trials=2,
        ray=INLINE,
        out=str(tmp_path / "run"),
    )
    assert (result.config.algo.name, result.config.algo.options) == (name, options)


def test_words_of_an_alias_are_the_plug_ins_own_options(tmp_path: Path) -> None:
    options = {"pop_size": 9, "n_select": 4, "n_eliminate": 1, "mutation_prob": 0.3}

    def search(**arguments: Any) -> Any:
        return raynas.search(
            evaluator=lambda arch: {"accuracy": float(arch["b"])},
            ray=INLINE,
            out=str(tmp_path / "run"),
            **arguments,
        )

    result = search(space=SPACE, algo="EvolutionOptim", options=options, trials=2)
    recorded = {"population": 9, "selected": 4, "parents": 2, "mutation_prob": 0.3}
    assert result.config.algo.options == recorded
    again = {"algo": "EvolutionOptim", "options": {"n_select": 4}, "resume": True}
    assert search(space=SPACE, trials=4, **again).config.algo.options == recorded
    with pytest.raises(StoreMismatch, match="population"):
        search(space=SPACE, algo="EvolutionOptim", options={"pop_size": 8}, resume=True)


@pytest.mark.parametrize(
    ("algo", "options", "meant"),
    [
        ("EvolutionOptim", {"pop_size": 4}, {"selected": 4, "parents": 2}),
        ("EvolutionOptim", {"pop_size": 1}, {"selected": 1, "parents": 1}),
        ("EvolutionOptim", {"n_select": 1}, {"population": 100, "parents": 1}),
        ("RegularizedEvolutionOptim", {"pop_size": 4}, {"tournament": 4}),
    ],
)
def test_presets_go_no_higher_than_what_is_said(
    algo: str, options: dict[str, Any], meant: dict[str, Any]
) -> None:
    settled = SAMPLERS.options_under(algo, options)
    assert meant.items() <= settled.items()
    raynas.sampler(algo, SPACE, **options).ask()


@pytest.mark.parametrize(
    ("algo", "options", "said"),
    [
        ("EvolutionOptim", {"n_eliminate": 5}, "'EvolutionOptim': n_eliminate: expected 1, got 5"),
        ("EvolutionOptim", {"pop_sise": 5}, "has no option 'pop_sise'"),
        ("EvolutionOptim", {"pop_size": 5, "population": 6}, "population is said twice"),
        ("EvolutionOptim", {"pop_size": 4, "n_select": 5}, "selected 5 and population 4"),
        ("evolution", {"pop_size": 5}, "has no option 'pop_size'"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    algo: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        raynas.sampler(algo, SPACE, **options)


@pytest.mark.parametrize(
    ("algo", "options", "said"),
    [
        ("BinaryGateOptim", {"n_samples": 3}, "n_samples: expected 2, or 0 for all"),
        ("DARTSOptim", {"a_optim": {"type": "SGD"}}, "a_optim: logits learn by Adam"),
        ("DARTSOptim", {"a_optim": {**ADAM, "args": {"lrr": 1}}}, "did you mean 'lr'"),
        ("darts", {"a_optim": ADAM}, "has no option 'a_optim'"),
        ("GumbelAnnealingOptim", {"mixed_op": "binary_gate"}, "which 'binary_gate' has not"),
    ],
)
def test_options_of_gradients_that_mean_nothing_are_refused(
    algo: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        resolve_one_shot(algo, options, 1)


def test_the_words_of_algorithms_by_gradients() -> None:
    spec, settings = resolve_one_shot(
        "DARTSOptim", {"a_optim": ADAM, "w_momentum": 0.8, "w_weight_decay": 1e-4}, 1
    )
    adam = {"alpha_lr": 0.01, "alpha_betas": (0.9, 0.99), "alpha_weight_decay": 0.0}
    assert spec.options == {"unrolled": True, **adam}
    assert (settings.momentum, settings.weight_decay) == (0.8, 1e-4)
    spec, settings = resolve_one_shot("REINFORCEOptim", {"batch_size": 16}, 1)
    assert "samples" not in spec.options  # the training's own word comes first
    assert settings.batch_size == 16
    assert ONE_SHOTS.resolved(["REINFORCEOptim", {"batch_size": 16}])[1]["samples"] == 16
    for samples, mode in ((2, "two"), (0, "full_v2")):
        spec, _ = resolve_one_shot("BinaryGateOptim", {"n_samples": samples, "renorm": False}, 1)
        assert (spec.options["mode"], spec.options["renorm"]) == (mode, False)


def test_a_search_by_gradients_records_the_true_name_and_all_options(tmp_path: Path) -> None:
    result = raynas.search(
        ToyNet,
        {"type": "BinaryGateOptim", "args": {"n_samples": 2}},
        epochs=1,
        trials=1,
        options={"alpha_lr": 0.5, "batch_size": 256},
        ray=INLINE,
        out=str(tmp_path / "run"),
    )
    told = result.config.algo
    assert (told.name, told.options["mode"], told.options["alpha_lr"]) == ("proxyless", "two", 0.5)
    assert told.options["alpha_every"] is None


@pytest.mark.parametrize(("train", "held"), [(80, 40), (80, 24), (40, 80)])
def test_one_pass_over_the_validation_split_is_spread_over_an_epoch(train: int, held: int) -> None:
    algo = Proxyless(mode="two", alpha_every=None, warmup_epochs=0)
    run = attached(algo, data=numbers(train, held=held))
    updates: list[int] = []
    algo.optimizer.register_step_post_hook(lambda *_: updates.append(run.step))
    for _ in range(2):
        run.run_epoch()
    steps = train // 8
    assert len(updates) == 2 * min(held // 8, steps)
    gaps = {b - a for a, b in itertools.pairwise(updates)}
    assert max(gaps) - min(gaps) <= 1
    assert updates[-1] == 2 * steps - 1


def test_without_renormalisation_the_others_give_way() -> None:
    algo = Proxyless(mode="two", renorm=False, alpha_every=1, warmup_epochs=0, alpha_lr=0.3)
    run = attached(algo)
    before = algo.relaxation.probabilities()
    batch = numbers().load().valid
    algo.step(batch, iter([batch]))
    draw = {k: m.draw for k, m in algo.relaxation.mixers.items()}
    after = algo.relaxation.probabilities()
    rest = {k: next(i for i in range(len(p)) if i not in draw[k]) for k, p in after.items()}
    assert any(abs(after[k][i] - before[k][i]) > 1e-6 for k, i in rest.items())
    assert run.step == 0


def test_uniform_gates_draw_paths_that_ignore_the_logits() -> None:
    """400 draws of four candidates whose probabilities are nearly 1, 0, 0, 0.

    Each of the four is missed with probability (3 / 4) ** 400 < 1e-49.
    """
    algo = Proxyless(mode="two", mixed_op="uniform_gate", alpha_every=1, warmup_epochs=0)
    run = attached(algo)
    vector = algo.relaxation.vectors["of 4"]
    vector.data[0] = 50.0
    drawn = set()
    for step in range(400):
        algo.relaxation.sample(step, 0)
        drawn.add(algo.relaxation.mixers["of 4"].draw[0])
    assert drawn == {0, 1, 2, 3}
    run.run_epoch()


def test_a_temperature_falls_exponentially_and_begins_anew() -> None:
    algo = ONE_SHOTS.get_builder("GumbelAnnealingOptim")(seed=0)
    assert isinstance(algo, DirectGradBilevel)
    assert algo.temperature(0) == 1e4
    assert algo.temperature(200) == pytest.approx(1e4 * math.exp(-0.3))
    slow = DirectGradBilevel(
        mixed_op=["gumbel_sum", {"temperature": 8.0}],
        anneal_rate=0.5,
        anneal_every=4,
        restart_every=12,
        warmup_epochs=1,
    )
    steps = [slow.temperature(step) for step in range(13)]
    assert steps[:4] == [8.0] * 4
    assert steps[4] == steps[7] == pytest.approx(8 * math.exp(-0.5))
    assert steps[12] == 8.0
    run = attached(slow)
    seen: list[float] = []
    assert isinstance(slow.op, GumbelSum)
    op = slow.op
    slow.optimizer.register_step_post_hook(lambda *_: seen.append(op.temperature))
    for _ in range(3):
        run.run_epoch()
    assert seen == [slow.temperature(step) for step in range(10)]


def test_a_grid_counts_as_the_parameters_stand() -> None:
    def keys(algo: str, **options: Any) -> list[tuple[Any, ...]]:
        sampler = raynas.sampler(algo, SPACE, **options)
        return [(arch["a"], arch["b"]) for arch in (sampler.ask() for _ in range(6))]

    first = [(1, 3), (2, 3), (1, 4), (2, 4), (1, 5), (2, 5)]
    assert keys("GridSearchOptim") == first
    assert keys("grid", order="last_fastest") == sorted(first)
    assert sorted(keys("grid", seed=1)) == sorted(first)
    with pytest.raises(ValueError, match="order is one of shuffled"):
        SAMPLERS.make("grid", SPACE, seed=0, order="random")


def test_an_alias_is_described_with_what_it_presets() -> None:
    told = raynas.describe("DARTSOptim")
    assert told.startswith("DARTSOptim is an alias of darts, with unrolled = True.")
    assert "w_momentum (momentum)" in told
    assert "Aliases: DARTSOptim (unrolled = True), DartsTrainer" in told


def test_a_registry_keeps_what_an_alias_means() -> None:
    toys: Registry[Any] = Registry("toy")

    @toys.register("ball", aliases={"Red": Alias(presets={"colour": "red"}), "Plain": Alias()})
    def ball(*, colour: str = "white", size: int = 1) -> tuple[str, int]:
        return colour, size

    assert toys.build("ball") == ("white", 1) == toys.get_builder("Plain")()
    assert toys.build("red") == toys.get_builder("RED")() == ("red", 1)
    assert toys.build(["red", {"colour": "blue"}], size=2) == ("blue", 2)
    assert toys.get_builder("Plain") is ball
    assert toys.aliases_of("ball") == ("Red", "Plain")
