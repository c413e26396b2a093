"""Search spaces that are one chain of choices, against published figures and counts by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from raynas.core.arch import Arch
from raynas.costs import CostTable, cost_of
from raynas.nn import activate, freeze, space_of
from raynas.nn.blocks import Chain, Residual
from raynas.nn.chain_space import idle_last
from raynas.nn.chain_table import Layout, Place, Stage
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.mutable import mutables
from raynas.nn.operators import FBNET_BLOCKS
from raynas.search_spaces.fbnet import fbnet
from raynas.search_spaces.nas_bench_macro import nas_bench_macro
from raynas.search_spaces.proxyless import LAYOUT as PROXYLESS
from raynas.search_spaces.proxyless import proxyless
from raynas.search_spaces.shufflenet_spos import LAYOUT as SPOS
from raynas.search_spaces.shufflenet_spos import shufflenet_spos
from tests.test_spaces import but_full, rows, settled

# input features of the classifier at width 0.1, blocks at depth 0.5
CHAINS = {
    "fbnet": (200, 1 + 2 + 2 + 2 + 2 + 2 + 1),
    "mobilenet_v2_cifar": (128, 1 + 1 + 2 + 2 + 2 + 2 + 1),
    "mobilenet_v2_cifar_gpu": (128, 1 + 2 + 2 + 2 + 2 + 2 + 1),
    "mobilenet_v2_imagenet": (128, 1 + 1 + 2 + 2 + 2 + 2 + 1),
    "mobilenet_v2_imagenet_gpu": (128, 1 + 2 + 2 + 2 + 2 + 2 + 1),
    "nas_bench_macro": (128, 1 + 2 + 2),
    "proxyless": (128, 1 + 2 + 2 + 2 + 2 + 2 + 1),
    "shufflenet_spos": (104, 2 + 2 + 4 + 2),
}
MACRO = ("identity", "MB3E3", "MB5E6")


@cache
def whole(name: str) -> ModelSpace:
    """A registered space at its published size."""
    return SPACES[name]()


@cache
def whole_table(name: str) -> CostTable:
    return CostTable(whole(name).supernet(), whole(name).example_input())


def uniform(model: ModelSpace, value: str) -> Arch:
    """The architecture that takes one value wherever that is an option, else the first."""
    choices = model.arch_space.choices
    return Arch({d.label: value if value in d.options else d.options[0] for d in choices})


def positional(model: ModelSpace, values: Sequence[str]) -> Arch:
    return Arch(dict(zip(model.arch_space.labels, values, strict=True)))


def macro(digits: Iterable[int | str]) -> Arch:
    """An architecture in the published digits."""
    return Arch({f"layer{i}": MACRO[int(digit)] for i, digit in enumerate(digits, 1)})


@pytest.mark.parametrize("name", but_full(CHAINS))
def test_a_small_chain(name: str) -> None:
    options = {"num_classes": 10, "in_channels": 1, "resolution": 8}
    model = SPACES[name](width=0.1, depth=0.5, **options)
    net, rng = model.supernet(), np.random.default_rng(0)
    assert isinstance(net, Chain)
    assert (net.classifier.in_features, len(net.blocks)) == CHAINS[name]
    assert model.input_shape == (1, 8, 8)
    table = CostTable(net, model.example_input())
    for arch in (space_of(net).sample(rng) for _ in range(2)):
        plain = freeze(net, arch)
        counted, tabulated = cost_of(plain, model.example_input()), table.cost(arch)
        assert (tabulated.params, tabulated.macs) == (counted.params, counted.macs)
        assert tabulated.activation_bytes >= counted.activation_bytes
        out = plain.train()(rows((4, 1, 8, 8)))
        assert out.shape == (4, 10)
        out.logsumexp(1).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in plain.parameters())


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("option", ["num_classes", "in_channels", "resolution", "width", "depth"])
def test_an_option_that_is_not_positive_is_named(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: {option} must be positive, got 0$"):
        SPACES[name](**{option: 0})


@pytest.mark.parametrize("name", [name for name in CHAINS if name != "nas_bench_macro"])
@pytest.mark.parametrize("dropout", [-0.1, 1, float("nan")])
def test_a_dropout_is_a_probability_below_1(name: str, dropout: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}: dropout must be at least 0 and below 1"):
        SPACES[name](dropout=dropout)


@pytest.mark.parametrize("candidates", [(), [], "MB3E3", ("MB3E3", "MB3E3")])
def test_candidates_are_different_names(candidates: Sequence[str]) -> None:
    with pytest.raises(ValueError, match=r"^mobilenet_v2_cifar: candidates must be at least one"):
        SPACES["mobilenet_v2_cifar"](candidates=candidates)


def test_places_of_a_layout_by_hand() -> None:
    layout = Layout(stem=16, stem_stride=2, stages=(Stage(16, 2, 1), Stage(24, 1, 2)), head=64)
    places = list(layout.places())
    assert [(p.shape, p.name, p.index, p.same) for p in places] == [
        ((16, 16, 1), "stage1_block1", 1, True),
        ((16, 16, 1), "stage1_block2", 2, True),
        ((16, 24, 2), "stage2_block1", 3, False),
    ]
    assert [p.shape for p in layout.places(width=2, depth=1.5)] == [
        (32, 32, 1),
        (32, 32, 1),
        (32, 32, 1),
        (32, 48, 2),
        (48, 48, 1),
    ]


def test_a_layout_without_strides_is_a_copy() -> None:
    flat = PROXYLESS.with_stride_1(0, 2)
    assert (flat.stem_stride, [s.stride for s in flat.stages]) == (1, [1, 1, 2, 2, 1, 2, 1])
    assert (PROXYLESS.stem_stride, [s.stride for s in PROXYLESS.stages]) == (
        2,
        [1, 2, 2, 2, 1, 2, 1],
    )
    assert flat.bn_eps == PROXYLESS.bn_eps


def test_proxyless_has_zero_only_beside_a_skip() -> None:
    model = whole("proxyless")
    choices = model.arch_space.choices
    firsts = [d for d in choices if d.label.endswith("block1")]
    assert (len(choices), len(firsts)) == (21, 6)
    assert {d.options for d in firsts} == {("MB3E3", "MB3E6", "MB5E3", "MB5E6", "MB7E3", "MB7E6")}
    others = {d.options for d in choices if d not in firsts}
    assert others == {(*firsts[0].options, "NIL")}
    assert model.arch_space.size() == 6**6 * 7**15
    norms = [m for m in model.supernet().modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.momentum, m.eps) for m in norms} == {(0.1, 1e-3)}


def test_proxyless_costs() -> None:
    model, table = whole("proxyless"), whole_table("proxyless")
    cost = table.cost(uniform(model, "MB3E6"))  # ModularNAS's table for GPUs is this chain
    assert (cost.params, cost.macs) == (4_684_776, 472_620_800)
    # stem, first block, six strided or widening MB3E3, head, classifier, each with its BatchNorms
    blocks = [(16, 24), (24, 40), (40, 80), (80, 96), (96, 192), (192, 320)]
    mobile = [i * 3 * i + 6 * i + 9 * 3 * i + 6 * i + 3 * i * o + 2 * o for i, o in blocks]
    ends = 27 * 32 + 64 + 9 * 32 + 64 + 32 * 16 + 32 + 320 * 1280 + 2560 + 1280 * 1000 + 1000
    assert table.cost(uniform(model, "NIL")).params == sum(mobile) + ends


def test_a_proxyless_block_of_zeros_is_its_shortcut() -> None:
    net = settled(proxyless(width=0.5).supernet())
    assert isinstance(net, Chain)
    block, x = net.blocks["stage2_block2"], rows((2, 16, 6, 6))
    assert isinstance(block, Residual)
    activate(block, {"stage2_block2": "NIL"})
    assert torch.equal(block(x), x)
    assert torch.equal(freeze(block, {"stage2_block2": "NIL"})(x), x)


# The authors' published network: kernel and expansion of every layer, s for a skip.
FBNET_C = "31 36 s 31 31 56 53 56 36 56 53 56 56 56 56 56 53 56 56 56 56 36"


def fbnet_names(short: str) -> list[str]:
    return ["fbnet_skip" if s == "s" else f"fbnet_k{s[0]}_e{s[1]}" for s in short.split()]


def test_fbnet_has_nine_candidates_in_each_of_22_layers() -> None:
    choices = fbnet(width=0.1).arch_space.choices
    assert {d.options for d in choices} == {FBNET_BLOCKS}
    assert fbnet(width=0.1).arch_space.size() == 9**22
    stages = Counter(d.label.split("_")[0] for d in choices)
    assert list(stages.values()) == [1, 4, 4, 4, 4, 4, 1]


def test_fbnet_c_has_its_published_parameters() -> None:
    model = fbnet()
    arch = positional(model, fbnet_names(FBNET_C))
    table = CostTable(model.supernet(), model.example_input())
    cost = table.cost(arch)
    # 5.5 M and 375 M in the paper's table 3; PyTorch Image Models count 5,572,200 for fbnetc_100
    assert cost.params == 5_572_200
    assert cost.macs == 384_960_160
    skips = table.cost({**arch, "stage7_block1": "fbnet_skip"})
    body = 184 * 1104 + 2 * 1104 + 9 * 1104 + 2 * 1104 + 1104 * 352 + 2 * 352
    assert cost.params - skips.params == body - (184 * 352 + 2 * 352)


def test_an_fbnet_skip_passes_its_input_once() -> None:
    net = settled(fbnet(width=0.5).supernet())
    assert isinstance(net, Chain)
    block, x = net.blocks["stage2_block2"], rows((2, 16, 6, 6))
    activate(block, {"stage2_block2": "fbnet_skip"})
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("build", [fbnet, proxyless, nas_bench_macro])
def test_every_candidate_with_a_skip_starts_as_the_identity(
    build: Callable[..., ModelSpace],
) -> None:
    net = build(width=0.25).supernet()
    assert isinstance(net, Chain)
    name = "stage2_block2"
    block = net.blocks[name]
    (choice,) = mutables(block)
    x = rows((2, next(p.shape[1] for p in block.parameters() if p.dim() == 4), 4, 4))
    for option in choice.choices()[0].options:
        activate(block, {str(choice.label): option})
        assert torch.equal(block(x), x)


# Of the table that Su et al. published; its other rows follow, since costs add up over layers.
PUBLISHED = {
    "00000000": (387_882, 7_713_280),
    "00000001": (791_594, 14_115_328),
    "00000222": (2_335_274, 43_328_000),
    "12012012": (2_014_602, 67_092_992),
    "21102201": (1_375_466, 58_327_552),
    "22222211": (2_077_034, 92_070_400),
    "22222222": (2_932_586, 105_660_928),
}


def test_nas_bench_macro_costs_what_its_table_says() -> None:
    model, table = whole("nas_bench_macro"), whole_table("nas_bench_macro")
    for digits, published in PUBLISHED.items():
        cost = table.cost(macro(digits))
        assert (cost.params, cost.macs) == published
    costs = [table.cost(macro(digits)) for digits in product(range(3), repeat=8)]
    assert sum(cost.params for cost in costs) == 10_736_730_954
    assert sum(cost.macs for cost in costs) == 364_399_409_664
    counted = cost_of(model.build(macro("21102201")), model.example_input())
    assert (counted.params, counted.macs) == PUBLISHED["21102201"]


def test_nas_bench_macro_has_3969_different_networks() -> None:
    model, table = whole("nas_bench_macro"), whole_table("nas_bench_macro")
    archs = list(model.arch_space)
    assert len(archs) == 3**8
    standing = {arch: model.canonical(arch) for arch in archs}
    assert len(set(standing.values())) == (3 * 3) * (3 * 7) * (3 * 7) == 3969
    for arch, canonical in standing.items():
        assert model.canonical(canonical) == canonical
        assert table.cost(arch) == table.cost(canonical)
        assert Counter(arch.values()) == Counter(canonical.values())


@pytest.mark.parametrize(
    ("digits", "canonical"),
    [
        ("22212202", "22212220"),  # the best network of the benchmark, under two keys
        ("00000001", "00000010"),
        ("01001001", "01010010"),
        ("00101201", "00110210"),
        ("02012021", "02012021"),  # the first identities of stages stay: they are convolutions
        ("00000000", "00000000"),
    ],
)
def test_identities_of_nas_bench_macro_move_to_the_end_of_their_stage(
    digits: str, canonical: str
) -> None:
    assert nas_bench_macro().canonical(macro(digits)) == macro(canonical)


def test_deeper_stages_of_nas_bench_macro_have_their_own_ends() -> None:
    deep = nas_bench_macro(depth=2)  # stages of 4, 6 and 6 layers
    assert deep.canonical(macro("0012001002000001")) == macro("0120012000010000")


def test_isomorphic_macro_networks_compute_the_same_with_the_same_weights() -> None:
    model, x = nas_bench_macro(width=0.1), rows((2, 3, 32, 32), torch.float64)
    arch = macro("22212202")
    net = settled(model.build(arch).double()).eval()
    moved = model.build(model.canonical(arch)).double().eval()
    weights = {
        key.replace("stage3_block3", "stage3_block2"): value
        for key, value in net.state_dict().items()
    }
    moved.load_state_dict(weights)
    with torch.no_grad():
        assert torch.equal(moved(x), net(x))


def test_idle_blocks_keep_the_order_of_the_others() -> None:
    arch = Arch({"a": "skip", "b": "x", "c": "skip", "d": "y", "e": "skip"})
    moved = idle_last(arch, [["a", "b", "c", "d"]], "skip")
    assert moved == {"a": "x", "b": "y", "c": "skip", "d": "skip", "e": "skip"}


def test_spos_has_twenty_layers_of_four() -> None:
    for cifar in (False, True):
        model = shufflenet_spos(width=0.1, cifar=cifar)
        assert {d.options for d in model.arch_space.choices} == {("SHU3", "SHU5", "SHU7", "SHX3")}
        assert model.arch_space.size() == 4**20


def shuffled(place: Place, kernel: int, size: int) -> tuple[int, int]:
    """Parameters and multiply-accumulates of SHU blocks, from the drawing in the paper."""
    inside, small = place.channels_out // 2, size // place.stride
    entering = place.channels_in if place.stride == 2 else place.channels_in // 2
    made = place.channels_out - entering
    convs = [(entering * inside, size), (kernel**2 * inside, small), (inside * made, small)]
    norms = 2 * (inside + inside + made)
    if place.stride == 2:
        convs += [(kernel**2 * entering, small), (entering**2, small)]
        norms += 4 * entering
    return sum(w for w, _ in convs) + norms, sum(w * side**2 for w, side in convs)


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_spos_costs_by_hand(kernel: int) -> None:
    cost = whole_table("shufflenet_spos").cost(uniform(whole("shufflenet_spos"), f"SHU{kernel}"))
    params = 27 * 16 + 32 + 640 * 1024 + 2048 + 1024 * 1000 + 1000
    macs = 27 * 16 * 112**2 + 640 * 1024 * 7**2 + 1024 * 1000
    size = 112
    for place in SPOS.places():
        more_params, more_macs = shuffled(place, kernel, size)
        params, macs, size = params + more_params, macs + more_macs, size // place.stride
    assert size == 7
    assert (cost.params, cost.macs) == (params, macs)


def test_spos_spans_the_published_range_of_costs() -> None:
    model, table = whole("shufflenet_spos"), whole_table("shufflenet_spos")
    macs = {name: table.cost(uniform(model, name)).macs for name in ("SHU3", "SHX3")}
    # Guo et al. sample from bins of 10 M between 290 M and 360 M
    assert 290e6 < macs["SHU3"] < 300e6
    assert 350e6 < macs["SHX3"] < 360e6


def test_spos_for_cifar_keeps_small_images_large() -> None:
    net = shufflenet_spos(width=0.1, cifar=True).supernet()
    assert isinstance(net, Chain)
    activate(net, {str(m.label): "SHU3" for m in mutables(net)})
    x, heights = torch.zeros(2, 3, 32, 32), []
    for module in (net.stem, *net.blocks.values()):
        x = module(x)
        heights.append(x.shape[2])
    assert heights == [32] + 4 * [16] + 4 * [8] + 8 * [4] + 4 * [4]
    assert net.stem[0].out_channels == 8
    assert shufflenet_spos(cifar=True).supernet().get_parameter("stem.conv.weight").shape[0] == 24
