"""From a model and an example to a plan of what is elastic, every part of which was tried."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest, leaves, rows
from raynas.nn.conversion.axes import Axes, Axis, Count, Uneven, axes_of
from raynas.nn.conversion.depth import skips_of
from raynas.nn.conversion.laws import agree, failing, outputs, permuted, put_back
from raynas.nn.conversion.links import linked
from raynas.nn.conversion.numbers import Counts, Numbers
from raynas.nn.conversion.plan import ElasticAxis, Kernel, Kind, Plan, Skip, Term
from raynas.nn.conversion.request import Request, unit_options
from raynas.nn.conversion.rules import RULES
from raynas.nn.conversion.trace import Place, Trace
from raynas.nn.conversion.trial import Trial

WRONG = "the model computes something else, or nothing, when it is cut"
SEED = 0  # of the weights that laws are tried with, and of permutations


class Conversion:
    """Finds what of a model may become smaller, and tries it on a copy.

    Args:
        model: any module; it is left as it is.
        example: a batch of inputs that it takes.
        request: what is asked for.

    Attributes:
        reasons: why places stay fixed.
    """

    def __init__(self, model: nn.Module, example: Nest, request: Request) -> None:
        self.request = request
        self.example = example
        self.rng = torch.Generator().manual_seed(SEED)
        self.model = _tried_copy(model, self.rng)
        self.tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        self.reasons: dict[Place, str] = {}
        self.expected = self._first_outputs()
        self.trace = Trace(self.model, RULES)
        self.trace.run(self.model, example)
        self.axes = axes_of(self.trace)
        self.reasons |= self.axes.reasons

    def _first_outputs(self) -> list[Tensor]:
        name = type(self.model).__name__
        try:
            first = outputs(self.model, self.example)
        except Exception as error:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            shapes = [tuple(leaf.shape) for leaf in leaves(self.example)]
            raise InvalidSpace(
                f"{name} does not take the example, of shapes {shapes}: {text}"
            ) from error
        if not agree(first, outputs(self.model, self.example)):
            raise InvalidSpace(
                f"{name} gives different outputs for one input in evaluation mode: what depends on "
                "chance or on earlier passes cannot be compared, so nothing can be made elastic"
            )
        return first

    def plan(self) -> Plan:
        """Return what is elastic.

        Raises:
            InvalidSpace: nothing is.
        """
        sound = self._permutable(self.axes.axes)
        numbers = Numbers(self.trace, self.axes, self.model)
        counts, offered = numbers.counts, self._offered(numbers.sound(sound, self.reasons))
        skips, kernels = self._skips(), self._kernels()
        plan = self._tried(self._assembled(offered, skips, kernels, counts), counts)
        if not (plan.axes or plan.skips or plan.kernels):
            raise InvalidSpace(
                f"nothing of {type(self.model).__name__} can be made elastic as it was asked: "
                f"{_summary(self.reasons)}"
            )
        return plan

    def _permutable(self, axes: Sequence[Axis]) -> list[Axis]:
        """Return the axes whose units may change places, everywhere, without another output."""

        def holds(some: Sequence[Axis]) -> bool:
            pairs = [(axis.places, axis.units) for axis in some]
            before = permuted(self.tensors, pairs, self.rng)
            try:
                return agree(self.expected, outputs(self.model, self.example))
            except Exception:
                return False
            finally:
                put_back(self.tensors, before)

        wrong = failing(axes, holds)
        self._fix(wrong, "the output depends on the order of its channels")
        return [axis for axis in axes if axis not in wrong]

    def _fix(self, axes: Iterable[Axis | ElasticAxis], reason: str) -> None:
        for axis in axes:
            self.reasons |= dict.fromkeys(axis.places, reason)

    def _offered(self, axes: Iterable[Axis]) -> dict[int, ElasticAxis]:
        offered: dict[int, ElasticAxis] = {}
        labels: set[str] = set()
        for axis in axes:
            kind = _kind(axis, self.trace.shapes)
            if not self.request.allows(axis.paths):
                self._fix([axis], "it was asked to stay (only=, skip=)")
                continue
            if kind not in self.request.ratios:
                self._fix([axis], f"it was not asked for ({kind}=)")
                continue
            options = unit_options(axis.units, self.request.ratios[kind])
            if len(options) < 2:
                self._fix([axis], f"no share asked for leaves fewer than its {axis.units} units")
                continue
            scale = 1 if kind == "heads" else next(iter(axis.places.values())).shape[1]
            offered[axis.number] = ElasticAxis(
                label=_label(axis, kind, labels),
                kind=kind,
                units=axis.units,
                options=tuple(n * scale for n in options),
                places=axis.places,
                statistic=axis.statistic,
            )
        offered, wrong = linked(self.trace, self.axes, offered)
        self._fix(wrong, "equal parts of it would become unequal")
        return offered

    def _skips(self) -> list[Skip]:
        if not self.request.depth:
            return []
        skips = skips_of(self.trace, self.model, self.axes.class_of)
        return [skip for skip in skips if self.request.allows([skip.path])]

    def _kernels(self) -> list[Kernel]:
        kernels = []
        called = {entry.path for entry in self.trace.calls}
        for path, module in self.model.named_modules():
            if isinstance(module, _ConvNd) and path in called and self.request.allows([path]):
                kernel = _kernel(path, module, self.request.kernels)
                if kernel is not None:
                    kernels.append(kernel)
        return kernels

    def _assembled(
        self,
        axes: Mapping[int, ElasticAxis],
        skips: Iterable[Skip],
        kernels: Iterable[Kernel],
        counts: Counts,
    ) -> Plan:
        kept = _Kept(self.axes, axes, {kernel.path for kernel in kernels})
        folded = {origin: kept.folded(count) for origin, count in counts.items()}
        return Plan(
            axes=axes,
            skips=tuple(skips),
            kernels=tuple(kernels),
            counts={origin: count for origin, count in folded.items() if count.per_unit},
            shapes=self.trace.shapes,
            fixed=dict(self.reasons),
            macs=kept.macs(self.trace),
            batch=rows(self.example),
            cache=kept.cache(self.trace),
        )

    def _tried(self, plan: Plan, counts: Counts) -> Plan:
        """Return the plan without what does not run when it is cut, or runs otherwise."""
        trial = Trial(self.model, self.example, plan, self.rng)
        wrong = failing(list(plan.axes), trial.holds)
        self._fix((plan.axes[number] for number in wrong), WRONG)
        axes = {number: axis for number, axis in plan.axes.items() if number not in wrong}
        plan = self._assembled(axes, skips=plan.skips, kernels=plan.kernels, counts=counts)
        trial.plan = plan
        unfit = failing(plan.skips, trial.runs_without)
        skips = [skip for skip in plan.skips if skip not in unfit]
        odd = failing(plan.kernels, trial.runs_with)
        kernels = [kernel for kernel in plan.kernels if kernel not in odd]
        return self._assembled(axes, skips, kernels, counts)


class _Kept:
    """Turns labels into counts of what offered axes keep."""

    def __init__(self, axes: Axes, offered: Mapping[int, ElasticAxis], kernels: set[str]) -> None:
        self._axes, self._offered, self._kernels = axes, offered, kernels

    def folded(self, count: Count) -> Count:
        """Return a count in which axes that are not offered are constant."""
        constant = count.constant
        for axis, width in count.per_unit.items():
            if axis not in self._offered:
                constant += width * self._axes.axes[axis].units
        per_unit = {a: w for a, w in count.per_unit.items() if a in self._offered}
        return Count(constant, per_unit)

    def _count(self, counted: tuple[Tensor, Tensor]) -> Count:
        return self.folded(self._axes.count(*counted))

    def macs(self, trace: Trace) -> tuple[Term, ...]:
        """Return the multiply-accumulates as a sum; nothing where some cannot be told so."""
        terms = []
        try:
            for product in trace.products:
                path = (product.weight or "").rpartition(".")[0]
                kernel = path if path in self._kernels else None
                counts = (self._count(product.elements), self._count(product.met))
                terms.append(Term(product.scope, counts, product.taps, kernel))
        except Uneven:
            return ()
        return tuple(terms)

    def cache(self, trace: Trace) -> tuple[Term, ...]:
        """Return what a token leaves in caches as a sum; nothing where that cannot be told."""
        try:
            return tuple(Term(scope, (self._count(kept),)) for scope, kept in trace.cached)
        except Uneven:
            return ()


def _kind(axis: Axis, shapes: Mapping[str, tuple[int, ...]]) -> Kind:
    if axis.attention:
        return "heads"
    matrices = [(name, dim) for name, dim in axis.places if len(shapes[name]) > 1]
    alone = len({name for name, _ in matrices}) == len(matrices) <= 3
    linear = all(len(shapes[name]) == 2 for name, _ in matrices)
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


def _kernel(path: str, conv: _ConvNd, sizes: Iterable[int]) -> Kernel | None:
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


def _tried_copy(model: nn.Module, rng: torch.Generator) -> nn.Module:
    """Return a copy in evaluation mode whose numbers are all different.

    Weights that are all ones or zeros, as they often begin, would let every law hold.
    """
    tried = copy.deepcopy(model).eval()
    for name, tensor in (*tried.named_parameters(), *tried.named_buffers()):
        constant = tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all())
        if not tensor.is_floating_point() or (tensor.dim() != 1 and not constant):
            continue
        if (name.rpartition(".")[0] and isinstance(tensor, nn.Parameter)) or "running" in name:
            _fill(name, tensor, rng)
    return tried


@torch.no_grad()
def _fill(name: str, tensor: Tensor, rng: torch.Generator) -> None:
    noise = torch.randn(tensor.shape, generator=rng).to(tensor)
    if name.endswith("running_var"):
        tensor.copy_(0.5 + noise.abs())
    elif name.endswith("bias") or name.endswith("running_mean"):
        tensor.copy_(0.3 * noise)
    else:
        tensor.copy_(0.6 + 0.3 * noise)


def _summary(reasons: Mapping[Place, str]) -> str:
    return "; ".join(dict.fromkeys(reasons.values())) or "it has no weights that a pass uses"
