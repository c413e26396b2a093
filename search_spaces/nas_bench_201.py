"""NAS-Bench-201: one small cell, used in every place (Dong & Yang, 2020, arXiv:2001.00326)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import product

from torch import Tensor, nn

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.errors import InvalidArch, nearest
from raynas.nn.choice import LayerChoice
from raynas.nn.modelspace import SPACES, ModelSpace, image_shape
from raynas.nn.operators import NAS_BENCH_201, ReLUConvBN, conv_bn

OPERATIONS = tuple(NAS_BENCH_201)
NODES, STAGES = 4, 3
EDGES = tuple((target, source) for target in range(1, NODES) for source in range(target))
INPUT, ZERO = "0", "#"


def label_of(target: int, source: int) -> str:
    """Return the label of the edge from one node to another; node 0 is the cell's input."""
    return f"edge_{target}_{source}"


LABELS = tuple(label_of(*edge) for edge in EDGES)


class DenseCell(nn.Module):
    """Four nodes, each but the first the sum of one operation on every earlier node.

    All cells of a network decide together, by the labels ``edge_<target>_<source>``.

    Args:
        channels: of all nodes.
        affine: give the BatchNorms weights.
    """

    def __init__(self, channels: int, *, affine: bool) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for label in LABELS:
            layers = {
                n: op(channels, channels, 1, affine=affine) for n, op in NAS_BENCH_201.items()
            }
            self.edges[label] = LayerChoice(layers, label=label)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last node, shape (batch, channels, height, width)."""
        nodes = [x]
        for target in range(1, NODES):
            total = self.edges[label_of(target, 0)](x)
            for source in range(1, target):
                total = total + self.edges[label_of(target, source)](nodes[source])
            nodes.append(total)
        return nodes[-1]


class ReductionBlock(nn.Module):
    """A basic residual block of stride 2; its shortcut averages 2 x 2 pixels and convolves by 1x1.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        affine: give the BatchNorms weights.
    """

    def __init__(self, channels_in: int, channels_out: int, *, affine: bool) -> None:
        super().__init__()
        self.first = ReLUConvBN(channels_in, channels_out, kernel=3, stride=2, affine=affine)
        self.second = ReLUConvBN(channels_out, channels_out, kernel=3, affine=affine)
        # rounding up changes nothing where the size is even, and follows the convolutions where not
        pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        conv = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.shortcut = nn.Sequential(OrderedDict(pool=pool, conv=conv))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, channels_out, ceil(height / 2), ceil(width / 2))."""
        out: Tensor = self.shortcut(x) + self.second(self.first(x))
        return out


class NASBench201(nn.Module):
    """Stem, three stages of cells with a reduction block between, pooling, classifier.

    Args:
        channels: of the first stage; they double with every further one.
        cells: of each stage.
        num_classes: length of the output.
        in_channels: of the images.
        affine: give the BatchNorms of cells and reduction blocks weights.
    """

    def __init__(
        self, *, channels: int, cells: int, num_classes: int, in_channels: int, affine: bool
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(in_channels, channels, 3))
        self.blocks = nn.ModuleDict()
        for stage in range(1, STAGES + 1):
            if stage > 1:
                self.blocks[f"reduce{stage}"] = ReductionBlock(
                    channels, 2 * channels, affine=affine
                )
                channels *= 2
            for position in range(1, cells + 1):
                self.blocks[f"stage{stage}_cell{position}"] = DenseCell(channels, affine=affine)
        self.last = nn.Sequential(
            OrderedDict(bn=nn.BatchNorm2d(channels), relu=nn.ReLU(inplace=True))
        )
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes).

        Args:
            x: shape (batch, in_channels, height, width).
        """
        x = self.stem(x)
        for block in self.blocks.values():
            x = block(x)
        logits: Tensor = self.classifier(self.last(x).mean((2, 3)))
        return logits


def to_arch_str(arch: Mapping[str, Value]) -> str:
    """Return an architecture in the benchmark's own notation.

    >>> to_arch_str({label: "none" for label in LABELS} | {"edge_2_1": "skip_connect"})
    '|none~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|'

    Raises:
        InvalidArch: the space does not hold ``arch``.
    """
    _space().check(arch)
    nodes = (
        "".join(f"|{arch[label_of(target, source)]}~{source}" for source in range(target)) + "|"
        for target in range(1, NODES)
    )
    return "+".join(nodes)


def from_arch_str(text: str) -> Arch:
    """Return the architecture that a text in the benchmark's notation stands for.

    Raises:
        InvalidArch: the text is none; the message names the edge.
    """
    nodes = text.strip().split("+")
    if len(nodes) != NODES - 1:
        raise InvalidArch(
            f"expected {NODES - 1} nodes, joined by '+', got {len(nodes)} in {text!r}"
        )
    edges: dict[str, Value] = {}
    for target, node in enumerate(nodes, 1):
        pairs = [pair.rpartition("~") for pair in node[1:-1].split("|")]
        if len(node) < 2 or {node[0], node[-1]} != {"|"} or len(pairs) != target:
            raise InvalidArch(
                f"node {target}: expected |operation~source| for each of {target} sources, got "
                f"{node!r}"
            )
        for source, (operation, _, at) in enumerate(pairs):
            label = label_of(target, source)
            if at != str(source):
                raise InvalidArch(f"{label}: expected source {source}, got {at!r} in {node!r}")
            if operation not in OPERATIONS:
                hint = nearest(operation, OPERATIONS)
                raise InvalidArch(f"{label}: no operation is named {operation!r}; {hint}")
            edges[label] = operation
    return Arch(edges)


def unique_str(operations: Sequence[str]) -> str:
    """Return what the cell computes, as the benchmark writes it; equal for isomorphic cells.

    A ``skip_connect`` is its source, an operation on zeros is zero, and a sum does not depend on
    the order of its terms. Zeros stay in sums, as in the benchmark's own strings.

    >>> unique_str(["nor_conv_3x3", "none", "skip_connect", "skip_connect", "none", "none"])
    '#+#+0'

    Args:
        operations: of the six edges, in the order of ``LABELS``.
    """
    nodes, at = [INPUT], 0
    for target in range(1, NODES):
        terms = [_term(operations[at + source], nodes[source]) for source in range(target)]
        nodes.append("+".join(sorted(terms)))
        at += target
    return nodes[-1]


def _term(operation: str, source: str) -> str:
    if operation == "none" or source == ZERO:
        return ZERO
    return source if operation == "skip_connect" else f"({source})@{operation}"


def canonical(arch: Arch) -> Arch:
    """Return the first architecture of the space that is isomorphic to ``arch``; 6,466 differ.

    As in the benchmark, an operation on zeros counts as zero, though a BatchNorm with weights makes
    its bias of them.

    Raises:
        InvalidArch: the space does not hold ``arch``.
    """
    _space().check(arch)
    first = _representatives()[unique_str([str(arch[label]) for label in LABELS])]
    return Arch(dict(zip(LABELS, first, strict=True)))


@cache
def _representatives() -> dict[str, tuple[str, ...]]:
    """Return the first cell of every class, of all 15,625 in the space's order."""
    representatives: dict[str, tuple[str, ...]] = {}
    for operations in product(OPERATIONS, repeat=len(EDGES)):
        representatives.setdefault(unique_str(operations), operations)
    return representatives


@cache
def _space() -> ArchSpace:
    return ArchSpace.of(**dict.fromkeys(LABELS, OPERATIONS))


@SPACES.register("nas_bench_201")
def nas_bench_201(
    *,
    channels: int = 16,
    cells: int = 5,
    num_classes: int = 10,
    in_channels: int = 3,
    resolution: int = 32,
    affine: bool = True,
) -> ModelSpace:
    """One cell of four nodes, with one of five operations on each of its six edges.

    There are 15,625 architectures, 6,466 up to isomorphism. The operation ``none`` is one of the
    five: it leaves an edge out.

    Source: Dong & Yang, 2020, arXiv:2001.00326.

    Args:
        channels: of the first stage.
        cells: of each of the three stages.
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        affine: give the BatchNorms of cells and reduction blocks weights, as in the benchmark's own
            training.

    Raises:
        ValueError: a size is not positive.
    """
    name = "nas_bench_201"
    shape = image_shape(
        name, in_channels=in_channels, resolution=resolution, channels=channels, cells=cells
    )
    factory = partial(
        NASBench201,
        channels=channels,
        cells=cells,
        num_classes=num_classes,
        in_channels=in_channels,
        affine=affine,
    )
    return ModelSpace(factory, input_shape=shape, name=name, canonical=canonical)
