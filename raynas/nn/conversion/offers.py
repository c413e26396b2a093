"""What an axis or a convolution offers: its kind, its options and the name of its decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch.nn.modules.conv import _ConvNd

from raynas.nn.conversion.axes import Axis
from raynas.nn.conversion.plan import ElasticAxis, Kernel, Kind
from raynas.nn.conversion.request import Request, unit_options


class Offers:
    """Makes decisions of axes as they were asked for.

    Args:
        request: what may become smaller.
        shapes: of the model's tensors by name.
    """

    def __init__(self, request: Request, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._request, self._shapes = request, shapes
        self._labels: set[str] = set()

    def refusal(self, axis: Axis) -> str | None:
        """Return why an axis is not offered as it was asked; None if it is."""
        kind = _kind(axis, self._shapes)
        if not self._request.allows(axis.paths):
            return "it was asked to stay (only=, skip=)"
        if kind not in self._request.ratios:
            return f"it was not asked for ({kind}=)"
        if 1 < axis.units == unit_options(axis.units, self._request.ratios[kind])[-1]:
            return f"no share asked for leaves fewer than its {axis.units} units"
        return None

    def of(self, axis: Axis) -> ElasticAxis:
        """Return what an axis offers that is not refused."""
        kind = _kind(axis, self._shapes)
        scale = 1 if kind == "heads" else min(at.shape[1] for at in axis.places.values())
        return ElasticAxis(
            label=_label(axis, kind, self._labels),
            kind=kind,
            units=axis.units,
            options=tuple(n * scale for n in unit_options(axis.units, self._request.ratios[kind])),
            places=axis.places,
            statistic=axis.statistic,
        )


def kernel_of(path: str, conv: _ConvNd, sizes: Iterable[int]) -> Kernel | None:
    """Return what a convolution's kernel offers, None if it cannot be smaller."""
    own = conv.kernel_size[0]
    if len(set(conv.kernel_size)) > 1 or own % 2 == 0 or conv.transposed:
        return None
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        return None
    options = sorted({own, *(size for size in sizes if size < own)}, reverse=True)
    edge = (own - options[-1]) // 2
    pads = zip(conv.padding, conv.dilation, strict=True)
    if len(options) < 2 or any(p < edge * d for p, d in pads):
        return None
    return Kernel(
        f"{path}.kernel", path, own, tuple(options), tuple(conv.padding), tuple(conv.dilation)
    )


def _kind(axis: Axis, shapes: Mapping[str, tuple[int, ...]]) -> Kind:
    if axis.attention:
        return "heads"
    matrices = [(name, dim) for name, dim in axis.places if len(shapes[name]) > 1]
    alone = len({name for name, _ in matrices}) == len(matrices) <= 3
    linear = all(len(shapes[name]) == 2 for name, _ in matrices)
    experts = all(len(shapes[name]) == 3 and dim > 0 for name, dim in matrices)
    linear = linear or experts  # whose matrices lie one upon the other
    return "ffn" if matrices and alone and linear and len(matrices) > 1 else "width"


def _label(axis: Axis, kind: Kind, taken: set[str]) -> str:
    """Return a name: of the module around for heads and MLPs, else of the first that makes them."""
    paths = [path for path in axis.paths if path] or [""]
    around = _common(paths) if kind != "width" else ""
    label = base = f"{around or paths[0]}.{kind}".lstrip(".")
    number = 2
    while label in taken:
        label = f"{base}{number}"
        number += 1
    taken.add(label)
    return label


def _common(paths: Sequence[str]) -> str:
    parts = [path.split(".") for path in paths]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)
