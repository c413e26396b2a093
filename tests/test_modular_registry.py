"""raynas.registry: register, build and get_builder as ModularNAS' document shows them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.archspace import ArchSpace
from raynas.core.errors import InvalidArch, InvalidSpace, UnknownName
from raynas.core.evaluator import EVALUATORS
from raynas.core.registry import Registry, normalised
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.gradient.mixed import MIXED_OPS
from raynas.gradient.mixed.weighted_sum import WeightedSum
from raynas.nn import Slot
from raynas.nn.construct import CONSTRUCTORS
from raynas.nn.export import EXPORTERS
from raynas.nn.modelspace import SPACES
from raynas.nn.mutable import mutables, space_of
from raynas.nn.operators import OPERATORS
from raynas.nn.slot import empty_slots
from raynas.registry import arch_space, construct, estim, export, mixed_op, optim, search_space
from raynas.setup.vega.estimators import KINDS
from raynas.supernet.protocol import ONE_SHOTS
from tests.inline import INLINE

SPACE = ArchSpace.of(a=[1, 2], b=[3, 4, 5])
REGISTRIES: tuple[Registry[Any], ...] = (
    *(SAMPLERS, ONE_SHOTS, SPACES, OPERATORS, MIXED_OPS, CONSTRUCTORS, EVALUATORS, EXPORTERS),
    search_space.MODELS,
)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a test registers be forgotten."""
    for registry in REGISTRIES:
        list(registry)  # loaded, not to be forgotten
        for name in ("_entries", "_aliases", "_names", "_meanings"):
            monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


class YourModel(nn.Module):
    """A template with one slot."""

    def __init__(self, channels: int = 4, *, classes: int = 10) -> None:
        super().__init__()
        self.conv = Slot(_chn_in=1, _chn_out=channels, _stride=2)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.conv(x).mean((2, 3)))
        return logits


def test_a_base_model_is_registered_built_and_searched(tmp_path: Path) -> None:
    assert search_space.register(YourModel) is YourModel
    search_space.register(YourModel, "your_model_name")
    model = search_space.build("YourModel", 8, classes=3)
    assert isinstance(model, YourModel)
    assert model.classifier.weight.shape == (3, 8)
    assert isinstance(search_space.get_builder("your_model_name")(), YourModel)
    assert isinstance(arch_space.build({"type": "YourModel", "args": {"channels": 2}}), YourModel)
    built = construct.build("DefaultMixedOpConstructor", primitives=["NC3", "NC5"])
    result = raynas.search(
        "your_model_name",
        optim.build("RandomSearchOptim"),
        construct=built,  # one alone, or a list
        space_options={"channels": 6},
        evaluator=lambda arch: {"accuracy": float(arch["conv"] == "NC3")},
        trials=2,
        ray=INLINE,
        out=str(tmp_path / "run"),
    )
    options = result.config.space.options
    assert options["construct"] == [["mixed_op", {"candidates": ["NC3", "NC5"]}]]
    net = raynas.load(result.path).model()
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert options["channels"] == 6


def test_a_registered_base_model_takes_the_shape_of_the_data(tmp_path: Path) -> None:
    search_space.register(YourModel, "your_model_of_digits")
    result = raynas.search(
        "your_model_of_digits",
        "DARTSOptim",
        construct=[("DefaultMixedOpConstructor", {"primitives": ["NC3", "NC5"]})],
        data="digits",
        trials=1,
        epochs=1,
        options={"batch_size": 512},
        ray=INLINE,
        out=str(tmp_path / "run"),
    )
    assert result.config.input_shape == (1, 16, 16)
    loaded = raynas.load(result.path)
    assert loaded.rebuilt.space.input_shape == (1, 16, 16)
    assert loaded.model()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    trained = raynas.retrain(result, epochs=1, options={"batch_size": 512}, ray=INLINE)
    assert trained.model()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_primitives_and_mixed_operators_are_found_by_their_names() -> None:
    @search_space.register
    def halved(chn_in: int, chn_out: int, stride: int) -> nn.Module:
        return nn.Conv2d(chn_in, chn_out, 1, stride)

    @search_space.register("MySum")
    class Sum(WeightedSum):
        """As its base."""

    assert isinstance(search_space.build("halved", 4, 6, 2), nn.Conv2d)
    assert isinstance(search_space.build("MB3E3", 4, 6, 2), nn.Module)
    assert isinstance(search_space.build("MySum"), Sum)
    assert isinstance(mixed_op.build("BinGate", mode="full"), MIXED_OPS["binary_gate"])  # type: ignore[arg-type]
    net = construct.build("DefaultMixedOpConstructor", primitives=["halved"])(YourModel())
    assert not empty_slots(net)


def test_a_registered_space_is_built_as_its_template() -> None:
    net = search_space.build("CIFAR_MobileNetV2_GPU", width=0.1, num_classes=3)
    assert len(empty_slots(net)) == 22
    assert not empty_slots(search_space.build("nas_bench_macro"))


def test_constructors_are_functions_or_classes() -> None:
    @construct.register
    class Halving:
        """Fills slots by one strided convolution."""

        def __init__(self, kernel: int = 1) -> None:
            self.kernel = kernel

        def __call__(self, model: nn.Module) -> nn.Module:
            name = f"NC{self.kernel}"
            return construct.build("DefaultOpConstructor", op=name)(model)

    net = construct.build("Halving", kernel=3)(YourModel())
    assert not empty_slots(net)
    named: Any = construct
    assert named.DefaultOpConstructor(op="NC3").name == "op"
    assert construct.get_builder("Halving")(kernel=5).options == {"kernel": 5}
    with pytest.raises(AttributeError, match="no attribute 'DefaultOpsConstructor'"):
        _ = named.DefaultOpsConstructor
    with pytest.raises(TypeError, match="constructor 'op': missing a required"):
        construct.build("DefaultOpConstructor")
    with pytest.raises(ValueError, match="no option 'opp'; did you mean 'op'"):
        construct.build("op", opp="NC3")


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_predefined_blocks_are_the_published_backbone() -> None:
    build = construct.build("MobileNetV2PredefinedConstructor")
    assert count(build(search_space.build("CIFAR_MobileNetV2"))) == 2_236_682
    assert count(build(search_space.build("CIFAR_MobileNetV2_GPU"))) == 3_416_586
    with pytest.raises(InvalidSpace, match=r"slot 'conv' .* has no predefined operator"):
        build(YourModel())


def test_a_list_of_blocks_has_any_entry_or_none_for_the_first() -> None:
    template = search_space.build("CIFAR_MobileNetV2_GPU")
    params = {"MB3E3": 1_923_738, "MB5E3": 2_007_450, "MB5E6": 3_584_010}
    params |= {"MB7E3": 2_133_018, "MB7E6": 3_835_146}
    for at, (name, expected) in enumerate(params.items()):
        firsts: list[list[Any]] = [[None], ["MB9E9"], [["MB3E3"]], []]
        listed = firsts[at % 4] + [name] * 21
        net = construct.build("MobileNetV2ArchDescConstructor", arch_desc=listed)(template)
        assert not empty_slots(net)
        assert count(net) == expected
    whole = construct.build("block_list", arch_desc=["MB3E3"] * 22, fix_first=False)(template)
    assert count(whole) > params["MB3E3"]
    with pytest.raises(InvalidArch, match=r"expected 22 entries, .* got 20"):
        construct.build("block_list", arch_desc=["MB3E3"] * 20)(template)


def test_a_choice_between_blocks_fixes_the_first_and_adds_nil_where_a_skip_is() -> None:
    template = search_space.build("CIFAR_MobileNetV2", width=0.1)
    build = partial(construct.build, "MobileNetV2SearchConstructor", primitives=["MB3E3", "MB5E3"])
    decisions = space_of(build(mixed_op="Index")(template)).decisions
    plain = search_space.build("mobilenet_v2_cifar", width=0.1, slots=False)
    assert [*decisions] == [*space_of(plain).labels]
    assert len(decisions) == 16
    options = [decision.options for decision in decisions.values()]
    assert options[:2] == [("MB3E3", "MB5E3"), ("MB3E3", "MB5E3", "NIL")]
    assert sum("NIL" in names for names in options) == sum(
        slot.stride == 1 and slot.chn_in == slot.chn_out for slot in empty_slots(template)[1:]
    )
    every = space_of(build(fix_first=False, add_zero_op=False)(template)).decisions
    assert {decision.options for decision in every.values()} == {("MB3E3", "MB5E3")}
    assert len(every) == 17


def test_what_is_a_space_of_its_own_here_is_named() -> None:
    with pytest.raises(UnknownName, match=r"ofa_mobilenet_v3.*progressive_shrinking"):
        construct.build("MobileNetV2ElasticConstructor", repeat_range=[2, 3])
    with pytest.raises(UnknownName, match="space='darts_cifar'"):
        construct.get_builder("darts_search_constructor")


def test_algorithms_are_built_with_their_words() -> None:
    built = optim.build({"type": "EvolutionOptim", "args": {"pop_size": 7}}, n_select=3)
    assert (built.name, built.options["population"], built.options["selected"]) == (
        "evolution",
        7,
        3,
    )
    assert optim.get_builder("REINFORCEOptim")(batch_size=4).options["samples"] == 4
    darts = optim.build("DARTSOptim", w_momentum=0.5)
    assert (darts.name, darts.options) == ("darts", {"unrolled": True, "momentum": 0.5})
    with pytest.raises(UnknownName, match="did you mean"):
        optim.build("DARTSOptimm")
    with pytest.raises(ValueError, match="has no option 'pop'"):
        optim.build("EvolutionOptim", pop=3)
    with pytest.raises(TypeError, match=r"expected a subclass of Sampler .* or of OneShot"):
        optim.register(YourModel)


def test_an_algorithm_of_ones_own_searches(tmp_path: Path) -> None:
    @optim.register
    class Backwards(Sampler):
        """Proposes the last architectures first."""

        def __init__(self, space: ArchSpace, *, seed: int, skip: int = 0) -> None:
            self._left = list(space)[: len(list(space)) - skip]

        def ask(self) -> raynas.Arch:
            return self._left.pop()

        def tell(self, trial: raynas.Trial) -> None: ...

    result = raynas.search(
        SPACE,
        optim.build("Backwards", skip=1),
        evaluator=lambda arch: {"accuracy": float(arch["b"])},
        trials=2,
        ray=INLINE,
        out=str(tmp_path / "run"),
    )
    assert result.config.algo.options == {"skip": 1}
    assert result.best.arch == {"a": 2, "b": 4}


@pytest.mark.parametrize(
    ("spec", "options", "arguments"),
    [
        (
            "DefaultEstimator",
            {"epochs": 5},
            {"evaluator": ["standalone", {"early_stopping": False, "epochs": 5}]},
        ),
        (
            "SuperNetEstim",
            {"epochs": 9, "arch_update_epoch_start": 2},
            {"epochs": 9, "options": {"warmup_epochs": 2}},
        ),
        (
            ["SubNetEstimator", {"epochs": 3}],
            {"num_bn_batch": 2},
            {"evaluator": ["shared", {"calibration_images": 128}], "trials": 3},
        ),
        (
            {"type": "SubNetEstim", "args": {"subnet_epochs": 4, "arch_update_batch": 2}},
            {},
            {"evaluator": ["standalone", {"early_stopping": False, "epochs": 4}], "trials": 2},
        ),
        (
            "ProgressiveShrinkingEstimator",
            {"stages": [{}, {"spatial": [1, 0.5]}], "n_subnet_batch": 2, "use_ratio": True},
            {
                "supernet": {
                    "algo": "progressive_shrinking",
                    "use_ratio": True,
                    "stages": [
                        {"epochs": 1, "subnets": 2},
                        {"epochs": 1, "subnets": 2, "spatial": [1, 0.5]},
                    ],
                }
            },
        ),
        (
            "RandomSamplingEstim",
            {"epochs": 8, "options": {"lr": 0.1}},
            {"supernet": {"algo": "spos", "epochs": 8, "warm_start_steps": 0, "lr": 0.1}},
        ),
        ("standalone", {"epochs": 2}, {"evaluator": ["standalone", {"epochs": 2}]}),
    ],
)
def test_estimators_are_arguments_of_a_search(
    spec: Any, options: dict[str, Any], arguments: dict[str, Any]
) -> None:
    assert estim.build(spec, **options) == arguments


def test_files_and_python_know_the_same_estimators() -> None:
    ours = {
        word for name in estim.ESTIMATORS for word in (name, *estim.ESTIMATORS.aliases_of(name))
    }
    assert {normalised(name) for name in KINDS} == {normalised(name) for name in ours}


def test_estimators_run(tmp_path: Path) -> None:
    mixed = construct.build("DefaultMixedOpConstructor", primitives=["NC3", "NC5"])
    common: dict[str, Any] = {"construct": [mixed], "ray": INLINE}
    trained = raynas.search(
        YourModel,
        "DARTSOptim",
        out=str(tmp_path / "a"),
        trials=1,
        **estim.build("SuperNetEstimator", epochs=1, options={"batch_size": 512}),
        **common,
    )
    assert len(trained.trials) == 1
    alone = raynas.search(
        YourModel,
        "RandomSearchOptim",
        out=str(tmp_path / "b"),
        **estim.build("SubNetEstimator", epochs=2, subnet_epochs=1),
        **common,
    )
    assert alone.trials["epochs"].tolist() == [1, 1]


def test_an_evaluator_of_ones_own_is_an_estimator(tmp_path: Path) -> None:
    @estim.register("Longest")
    class Longest:
        """Scores by one decision."""

        def __init__(self, *, sign: int = 1) -> None:
            self.sign = sign

        def bind(self, space: ArchSpace, objectives: Any) -> Any:
            return lambda arch: {"accuracy": float(self.sign * arch["b"])}

    result = raynas.search(
        SPACE,
        "GridSearchOptim",
        ray=INLINE,
        out=str(tmp_path / "run"),
        **estim.get_builder("Longest")(sign=-1),
    )
    assert result.best.arch["b"] == 3
    with pytest.raises(ValueError, match="one of raynas' own"):
        estim.register(Longest, "SubNetEstimator")


def test_exporters_are_built() -> None:
    net = construct.build("mixed_op", candidates=["NC3", "NC5"])(YourModel())
    assert export.build("DefaultSlotTraversalExporter")(net, {"conv": "NC5"}) == [["NC5"]]
    assert any(mutables(net))


def test_a_taken_name_and_an_unknown_one() -> None:
    with pytest.raises(ValueError, match="'MB3E3' is already"):
        search_space.register(YourModel, "MB3E3", kind="primitive")
    with pytest.raises(UnknownName, match="no component named 'MB3E33'; did you mean 'MB3E3'"):
        search_space.build("MB3E33")
    with pytest.raises(TypeError, match="has no name of its own"):
        optim.register(3)
