"""Activations that architectures share: never another score, never more bytes than allowed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.core.arch import Arch
from raynas.core.errors import InvalidSpace
from raynas.nn import BatchNorm2d, Conv2d, LayerChoice, Repeat, ValueChoice, activate, space_of
from raynas.nn.blocks import Chain
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.supernet.prefix_cache import PrefixCache
from raynas.supernet.scoring import SubnetScorer
from raynas.supernet.stages import offers_stages, spans_of, stages_of
from tests.test_calibration import checksum
from tests.test_spaces import images, settled
from tests.test_spaces import space as small_space
from tests.test_spaces import supernet as small_supernet
from tests.toynet import ToyNet

CHAINS = (
    "fbnet",
    "mobilenet_v2_cifar",
    "mobilenet_v2_cifar_gpu",
    "mobilenet_v2_imagenet",
    "mobilenet_v2_imagenet_gpu",
    "nas_bench_macro",
    "proxyless",
    "shufflenet_spos",
    "single_path_nas",
)
FAMILIES = {"fbnet", "mobilenet_v2_cifar", "nas_bench_macro", "proxyless", "shufflenet_spos"}
KB = 2**10


def examples(count: int, seed: int, size: int = 8) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn((count, 1, size, size), generator=rng)
    return x, torch.randint(10, (count,), generator=rng)


TRAIN, VALID = examples(12, 0), examples(14, 1)


def scorer_of(net: nn.Module, kilobytes: float = 2**17) -> SubnetScorer:
    return SubnetScorer(net, TRAIN, VALID, cache_bytes=int(kilobytes * KB))


@cache
def chain(name: str) -> ModelSpace:
    options: dict[str, Any] = {"num_classes": 10, "in_channels": 1, "resolution": 8}
    zero = {"zero": True} if name.startswith("mobilenet_v2") else {}
    return SPACES[name](width=0.1, depth=0.5, **options, **zero)


def evolved(net: nn.Module, count: int, seed: int = 0) -> list[Arch]:
    """Random architectures, then mutants of any that came before."""
    space, rng = space_of(net), np.random.default_rng(seed)
    archs = [space.sample(rng) for _ in range(4)]
    while len(archs) < count:
        archs.append(space.mutate(archs[int(rng.integers(len(archs)))], rng))
    return archs


def agree(net: nn.Module, archs: Iterable[Arch], kilobytes: float = 2**17) -> SubnetScorer:
    """Return a scorer with a cache, which has scored as one without does, bit for bit."""
    plain, cached = scorer_of(net, 0), scorer_of(net, kilobytes)
    before = checksum(net)
    for arch in archs:
        assert cached.score(arch) == plain.score(arch), arch
        assert cached.cache.held_bytes <= cached.cache.most_bytes
    assert checksum(net) == before
    assert plain.cache.hits == len(plain.cache) == 0
    return cached


def act(kind: type[nn.Module] = nn.ReLU) -> nn.Module:
    return kind(inplace=True)


def conv(channels_in: int, kernel: int = 3, channels_out: int = 4) -> nn.Module:
    layer = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), act())


def choice(label: str, channels_in: int = 4) -> LayerChoice:
    kernels = {"k1": conv(channels_in, 1), "k3": conv(channels_in), "k5": conv(channels_in, 5)}
    return LayerChoice(kernels, label=label)


def head(channels: int = 4) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def sequence(*layers: nn.Module) -> nn.Sequential:
    """A chain with labels and weights that matter."""
    net = nn.Sequential(*layers)
    for i, p in enumerate(net.parameters()):
        nn.init.normal_(p, 0.1, 0.5, torch.Generator().manual_seed(i))
    space_of(net)
    return net


def three() -> nn.Sequential:
    return sequence(choice("a", 1), choice("b"), choice("c"), *head())


# --- stages ---


@pytest.mark.parametrize("name", SPACES)
def test_the_stages_of_a_registered_space_are_its_forward_pass(name: str) -> None:
    net = settled(copy.deepcopy(small_supernet(name)))
    assert offers_stages(net) == isinstance(net, Chain) == (name in CHAINS)
    if name not in CHAINS:
        return
    x = images(small_space(name))
    rng = np.random.default_rng(0)
    for _ in range(2):
        activate(net, space_of(net).sample(rng))
        with torch.no_grad():
            out, staged = net(x), x
            for _, stage in stages_of(net):
                staged = stage(staged)
        assert torch.equal(out, staged)
        assert out.std() > 0


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_cut_before_every_choice(name: str) -> None:
    net = chain(name).supernet()
    spans = spans_of(net)
    labels = [label for span in spans for label in span.labels]
    assert sorted(labels) == sorted(space_of(net).labels)
    assert [len(span.labels) for span in spans] == [0] + [1] * len(labels)
    assert [m for span in spans for m in span.modules] == [m for _, m in stages_of(net)]
    assert isinstance(net, Chain)
    ends = ("head", "pool", "dropout", "classifier")
    assert [name for name, _ in net.stages()] == ["stem", *net.blocks, *ends]


def test_a_sequence_is_flattened_but_for_what_decides_or_is_watched() -> None:
    watched = nn.Sequential(nn.ReLU())
    watched.register_forward_hook(lambda *_: None)
    net = nn.Sequential(nn.Sequential(nn.ReLU(), choice("a")), watched)
    assert [name for name, _ in stages_of(net)] == ["0.0", "0.1", "1"]
    assert stages_of(net)[2][1] is watched
    twice = nn.Sequential(*[nn.ReLU()] * 2)
    assert [name for name, _ in stages_of(twice)] == ["0", "1"]
    twice.forward = lambda x: x  # type: ignore[method-assign]
    assert stages_of(twice) == [("", twice)]


class Backwards(nn.Sequential):
    """No chain: it overrides ``forward``."""

    def forward(self, x: Tensor) -> Tensor:
        for module in reversed(list(self)):
            x = module(x)
        return x


class Staged(nn.Module):
    """A chain that says so; ``told`` replaces what it says."""

    def __init__(self, told: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self.a, self.b, self.head = choice("a", 1), choice("b"), nn.Linear(4, 10)
        self.told = told

    def stages(self, own: bool = False) -> Any:
        parts = [("a", self.a), ("b", self.b), ("pool", self.pool), ("head", self.head)]
        return self.told(self) if self.told and not own else parts

    @property
    def pool(self) -> nn.Module:
        return nn.Sequential(*head()[:2])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.pool(self.b(self.a(x))))
        return out


def test_what_only_looks_like_a_chain_is_none() -> None:
    backwards = Backwards(choice("a"), choice("b"))
    assert stages_of(backwards) == [("", backwards)]
    nested = ToyNet()
    nested.stages = nn.Sequential(nn.ReLU())  # as many published networks name a child
    assert not offers_stages(nested)
    assert [module for _, module in stages_of(nested)] == [nested]


def test_a_user_s_own_stages_are_shared() -> None:
    net = Staged()
    cached = agree(net, space_of(net))
    assert cached.cache.hits == 6  # "a" has been run before by all but the first of each third
    assert agree(nn.Sequential(net, nn.Tanh()), space_of(net)).cache.hits == 6


@pytest.mark.parametrize(
    "told",
    [
        lambda net: [("b", net.b), ("a", net.a), ("pool", net.pool), ("head", net.head)],
        lambda net: [("a", net.a), ("b", net.b), ("pool", net.pool)],
        lambda net: [*net.stages(own=True), ("tanh", nn.Tanh())],
    ],
    ids=["disorder", "too few", "too many"],
)
def test_stages_that_are_not_the_forward_pass_are_refused(told: Callable[[Any], Any]) -> None:
    net = Staged(told)
    space_of(net)
    with pytest.raises(InvalidSpace, match=r"Staged: its stages\(\) one after the other do not"):
        scorer_of(net)
    with pytest.raises(InvalidSpace, match=r"Sequential: its stages\(\)"):
        scorer_of(nn.Sequential(net))
    scorer_of(net, 0)  # what is not used is not wrong


@pytest.mark.parametrize("told", [lambda net: [net.a, net.b], lambda _: 3])
def test_stages_of_another_form_are_refused(told: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidSpace, match=r"Staged\.stages\(\): expected \(name, module\) pairs"):
        stages_of(Staged(told))


# --- scores ---


@pytest.mark.parametrize("name", CHAINS)
def test_scores_are_the_same_bit_for_bit(name: str) -> None:
    net = settled(chain(name).supernet())
    count = 60 if name in FAMILIES else 12
    archs = evolved(net, count)
    cached = agree(net, archs)
    asked = count * len(spans_of(net))
    assert cached.cache.hits + cached.cache.misses == asked
    assert cached.cache.hits > asked / 4
    assert len({cached.score(arch)["loss"] for arch in archs}) > 5


@pytest.mark.parametrize(
    ("name", "rows"),  # zeros, and an identity
    [
        ("proxyless", 7),
        ("nas_bench_macro", 20),
        pytest.param("proxyless", 20, marks=pytest.mark.full),
        pytest.param("nas_bench_macro", 7, marks=pytest.mark.full),
    ],
)
def test_several_passes_give_the_same_scores(
    name: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raynas.supernet.scoring.ROWS", rows)
    net = settled(chain(name).supernet())
    cached = agree(net, evolved(net, 20), 60 if rows == 7 else 2**17)
    assert len(cached._passes) > 1
    assert cached.cache.hits > 0


@pytest.mark.parametrize("kilobytes", [0.01, 8, 30, 100])
def test_what_does_not_fit_is_run_again(kilobytes: float) -> None:
    net = settled(chain("nas_bench_macro").supernet())
    archs = evolved(net, 40)
    cached, roomy = agree(net, archs, kilobytes).cache, scorer_of(net)
    for arch in archs:
        roomy.score(arch)
    assert cached.hits < roomy.cache.hits
    assert (cached.hits > 0) == (kilobytes > 1)
    assert (cached.held_bytes > 0) == (kilobytes > 1)


@pytest.mark.parametrize("second", [nn.ReLU, nn.Hardswish])
def test_a_stage_may_write_into_its_input(second: type[nn.Module]) -> None:
    """Later stages change what an earlier one returned, through an identity as well."""

    def writes(label: str) -> LayerChoice:
        layers = {
            "same": nn.Identity(),
            "writes": nn.Sequential(act(second), conv(4)),
            "twice": nn.Sequential(act(second), act(second)),
        }
        return LayerChoice(layers, label=label)

    layer = nn.Conv2d(1, 4, 3)
    net = sequence(layer, *map(writes, "abcde"), *head())
    archs = list(space_of(net))
    order = np.random.default_rng(0).permutation(len(archs))[:80]
    cached = agree(net, [archs[i] for i in order])
    assert cached.cache.hits > 0
    assert cached.cache._overwritten


def test_elastic_sizes_are_shared_like_any_other_decision() -> None:
    width = ValueChoice([2, 4], label="width")
    layers = [
        nn.Sequential(Conv2d(1, width, 3), BatchNorm2d(width), act()),
        nn.Sequential(Conv2d(width, 4, ValueChoice([1, 3], label="kernel")), BatchNorm2d(4)),
        Repeat(lambda _: conv(4), (1, 3), label="depth"),
        nn.Sequential(Conv2d(4, width, 1), BatchNorm2d(width)),  # brings no new decision
        nn.Sequential(Conv2d(width, 6, 1), BatchNorm2d(6)),
    ]
    net = sequence(*layers, *head(6))
    assert [span.labels for span in spans_of(net)] == [("width",), ("kernel",), ("depth",)]
    assert agree(net, space_of(net)).cache.hits > 0


def test_a_network_without_stages_is_run_as_a_whole() -> None:
    net = settled(copy.deepcopy(small_supernet("ofa_mobilenet_v3")))
    archs = evolved(net, 3)
    train, valid = ((x.expand(-1, 3, -1, -1), y) for x, y in (TRAIN, VALID))
    plain, cached = (SubnetScorer(net, train, valid, cache_bytes=size) for size in (0, 2**20))
    assert [plain.score(arch) for arch in archs] == [cached.score(arch) for arch in archs]
    assert cached.cache.hits == len(cached.cache) == 0


def test_decisions_inside_candidates_count() -> None:
    nested = nn.Sequential(choice("inner", 1), nn.ReLU())
    first = LayerChoice({"nested": nested, "plain": conv(1)}, label="outer")
    net = sequence(first, choice("b"), *head())
    assert spans_of(net)[0].labels == ("outer", "inner")
    assert agree(net, [*space_of(net)] * 2).cache.hits == 8 + 12


def test_equal_labels_decide_together() -> None:
    net = sequence(choice("a", 1), choice("b"), choice("a"), choice("c"), *head())
    assert [span.labels for span in spans_of(net)] == [("a",), ("b",), ("c",)]
    assert agree(net, space_of(net)).cache.hits > 0


def test_options_that_only_differ_in_type_are_told_apart() -> None:
    net = sequence(choice("a", 1), choice("b"), *head())
    keys = {spans_of(net)[0].key({"a": value}) for value in (1, 1.0, True, "1", (1,))}
    assert len(keys | {spans_of(net)[0].key({})}) == 6


def test_a_decision_outside_of_all_stages_is_the_first_one_s() -> None:
    net = Staged()
    net.unused = choice("unused")
    space_of(net)
    assert [span.labels for span in spans_of(net)] == [("a", "unused"), ("b",)]


def test_what_was_run_is_not_run_again() -> None:
    net = three()
    calls: list[str] = []
    for label, layer in zip("abc", net, strict=False):
        assert isinstance(layer, LayerChoice)
        for candidate in layer.layers():
            candidate.register_forward_hook(lambda *_, label=label: calls.append(label))
    cached = scorer_of(net)
    calls.clear()  # of what shows which memory layout it runs with
    for text in ("k1 k1 k1", "k1 k1 k3", "k1 k3 k3", "k1 k1 k5", "k3 k1 k5", "k1 k3 k1"):
        calls.append(" ")
        cached.score(Arch(dict(zip("abc", text.split(), strict=True))))
    assert "".join(calls).split() == ["abc", "c", "bc", "c", "abc", "c"]
    assert (cached.cache.hits, cached.cache.misses) == (7, 11)


# --- weights ---


def train(optimizer: torch.optim.Optimizer, net: nn.Module) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(TRAIN[0]), TRAIN[1]).backward()
    optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.5, foreach=False),
        lambda p: torch.optim.SGD(p, 0.5, foreach=True),
        lambda p: torch.optim.SGD(p, 0.5, fused=True),
        lambda p: torch.optim.AdamW(p, 0.5, fused=True),
    ],
    ids=["sgd", "foreach", "fused", "adamw"],
)
def test_weights_that_are_trained_are_seen(
    make: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
) -> None:
    net = three()
    arch = Arch({"a": "k3", "b": "k1", "c": "k5"})
    cached = scorer_of(net)
    before = cached.score(arch)
    activate(net, arch)
    train(make(net[0].parameters()), net)  # the first stage only: all others are as before
    after = cached.score(arch)
    assert after != before
    assert after == scorer_of(net, 0).score(arch)


def test_weights_that_are_loaded_are_seen() -> None:
    net = three()
    cached, arch = scorer_of(net), Arch({"a": "k3", "b": "k1", "c": "k5"})
    before = cached.score(arch)
    net.load_state_dict({name: tensor * 0.5 for name, tensor in net.state_dict().items()})
    assert cached.score(arch) == scorer_of(net, 0).score(arch) != before


def test_weights_that_are_written_in_place_are_seen() -> None:
    net = three()
    cached, arch = scorer_of(net), Arch({"a": "k3", "b": "k1", "c": "k5"})
    before = cached.score(arch)
    with torch.no_grad():
        for p in net[0].parameters():
            p[1:].mul_(-1)
    assert cached.score(arch) == scorer_of(net, 0).score(arch) != before


def test_a_write_that_leaves_no_trace_is_seen() -> None:
    net = three()
    cached, arch = scorer_of(net), Arch({"a": "k3", "b": "k1", "c": "k5"})
    before = cached.score(arch)
    for p in net[0].parameters():
        p.data.mul_(-1)
    assert cached.score(arch) == scorer_of(net, 0).score(arch) != before


def test_inference_mode_changes_nothing() -> None:
    net = three()
    archs = list(space_of(net))
    expected = [scorer_of(net, 0).score(arch) for arch in archs]
    with torch.inference_mode():
        cached = scorer_of(net)
        assert [cached.score(arch) for arch in archs] == expected
        assert cached.cache.hits > 0
        made = three()  # its weights could change without a trace
        unseen = scorer_of(made)
        assert [unseen.score(arch) for arch in archs] == expected
        assert unseen.cache.hits == 0


# --- the cache ---


def kept(store: PrefixCache) -> list[str]:
    return ["".join(key) for key in store._kept]


def put(store: PrefixCache, keys: str, numbers: int = 1) -> None:
    for key in keys.split():
        store.put(tuple(key), (torch.zeros(numbers),))


def prefixes(word: str) -> list[tuple[str, ...]]:
    return [tuple(word[: i + 1]) for i in range(len(word))]


def test_what_was_used_last_is_kept() -> None:
    store = PrefixCache(12)
    put(store, "a ab abc")
    done, tensors = store.longest(prefixes("abd"))
    assert done == 2
    assert tensors is not None
    put(store, "abd")  # "a" was used with "ab"
    assert kept(store) == ["a", "ab", "abd"]
    assert store.held_bytes == 12
    put(store, "x", 3)
    assert kept(store) == ["x"]
    put(store, "y", 4)
    assert kept(store) == ["x"]  # what never fits drives nothing out
    assert store.longest(prefixes("ab")) == (0, None)
    store.clear()
    assert (len(store), store.held_bytes) == (0, 0)


def test_bytes_are_those_of_the_memory_behind_a_tensor() -> None:
    store = PrefixCache(1000)
    whole = torch.zeros(100)
    store.put(("view",), (whole[:1], whole[50:]))
    assert store.held_bytes == 400
    store.put(("view",), (torch.zeros(1),))  # is there already
    store.put(("none",), ([whole],))  # type: ignore[arg-type]  # nothing that could be watched
    assert kept(store) == ["view"]


def test_what_was_written_into_is_gone() -> None:
    store = PrefixCache(1000)
    x = torch.zeros(3)
    for key in prefixes("abc")[:2]:
        store.put(key, (x,))  # an identity returns its input
    x[1:].add_(1)
    assert store.longest(prefixes("ab")) == (0, None)
    assert (len(store), store.held_bytes) == (0, 0)
    put(store, "d de def")
    assert kept(store) == ["def"]  # others of that length would be written into as well


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^cache_bytes must be at least 0, got -1024$"):
        scorer_of(three(), -1)
