"""A model that became elastic: its modules, weights and code are its own, cut as they are read."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision
from raynas.core.errors import InvalidSpace
from raynas.nn.conversion.counts import changed
from raynas.nn.conversion.cuts import Cut, cut_of, kept_positions
from raynas.nn.conversion.plan import Kernel, Plan, Skip
from raynas.nn.conversion.skipped import Skipped
from raynas.nn.elastic_norm import TakesStatistics
from raynas.nn.labels import Labelled
from raynas.nn.mutable import Memo, Mutable

CUTS = "_cuts"  # where a module keeps how its tensors and numbers are read
STATE = frozenset({CUTS, "plan", "_readers", "_switches", "_active"})  # no data of the model's own
_CLASSES: dict[Any, type[nn.Module]] = {}
Update = tuple[dict[str, Any], str, Any]
Reader = tuple[tuple[str, ...], Callable[..., Update]]  # labels, and what sets a cut by them


class Converted:
    """A module of an elastic model; its class is the original's with a few attributes cut.

    Attributes:
        original: the class that the model's author wrote.
        cut_attributes: what is read as it is cut.
    """

    original: type[nn.Module]
    cut_attributes: frozenset[str]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle by the original's class, for that of a converted module has no name."""
        root = isinstance(self, ElasticModel)
        return _blank, (self.original, self.cut_attributes, root), vars(self)


class ConvertedNorm(TakesStatistics):
    """A BatchNorm of an elastic model.

    What it tracks is written back where its channels are no leading ones.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by its own statistics, by those of the input, or by those that are given."""
        norm: Any = self
        if self.statistics is not None:
            mean, var = self.statistics(x)
            return nn.functional.batch_norm(
                x, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps
            )
        cuts = vars(norm)[CUTS]
        cut = cuts.get("running_mean")
        if not norm.training or cut is None or cut.is_view:
            out: Tensor = super().forward(x)  # type: ignore[misc]
            return out
        held = {name: cut(norm._buffers[name]) for name in ("running_mean", "running_var")}
        norm.num_batches_tracked.add_(1)
        rate = norm.momentum
        if rate is None:
            rate = 1.0 / float(norm.num_batches_tracked)
        mean, var = held.values()
        out = nn.functional.batch_norm(x, mean, var, norm.weight, norm.bias, True, rate, norm.eps)
        for name, value in held.items():
            cut.write(norm._buffers[name], value)
        return out

    @torch.no_grad()
    def write_statistics(self, mean: Tensor, var: Tensor) -> None:
        """Set the running statistics of the active channels."""
        norm: Any = self
        cut = vars(norm)[CUTS].get("running_mean")
        for name, value in (("running_mean", mean), ("running_var", var)):
            whole = norm._buffers[name]
            if cut is None or cut.is_view:
                (whole if cut is None else cut(whole)).copy_(value)
            else:
                cut.write(whole, value)


class ElasticModel(Mutable):
    """The root of an elastic model.

    Attributes:
        plan: what is elastic.
    """

    holders = ()
    plan: Plan

    @property
    def own_space(self) -> ArchSpace:  # type: ignore[override]
        """The plan's space."""
        return self.plan.space

    def choices(self) -> tuple[Decision, ...]:
        """Return the plan's decisions."""
        return self.plan.decisions

    @property
    def route(self) -> Any:
        """The active architecture; None is the whole model."""
        return vars(self).get("_active")

    @route.setter
    def route(self, arch: Mapping[str, Value] | None) -> None:
        vars(self)["_active"] = arch
        self._switch(arch or {})

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let ``forward`` run with the architecture's part of every weight."""
        self.route = arch

    def _switch(self, arch: Mapping[str, Value]) -> None:
        for labels, states in vars(self)["_switches"]:
            key = tuple([arch.get(label) for label in labels])
            updates = states.get(key)
            if updates is None:
                updates = states[key] = list(self._updates(labels, arch))
            for holder, name, value in updates:
                holder[name] = value

    def _updates(self, labels: tuple[str, ...], arch: Mapping[str, Value]) -> Iterator[Update]:
        for reader in vars(self)["_readers"][labels]:
            yield reader(arch)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a plain model of the original's classes, with its share of the weights."""
        before = self.route
        self.route = arch
        try:
            return _plain_copy(self, arch, memo)
        finally:
            self.route = before


def attach(model: nn.Module, plan: Plan) -> nn.Module:
    """Make a model elastic in place; its whole is active.

    Raises:
        InvalidSpace: the model's class uses a name for something else that a supernet needs.
    """
    taken = (set(vars(Mutable)) | set(vars(Labelled))) & _names(type(model))
    if taken:
        raise InvalidSpace(
            f"{type(model).__name__} has {', '.join(sorted(taken))} of its own, which the supernet "
            "of a converted model needs: wrap it in a module that calls it"
        )
    readers = _readers(model, plan)
    root: Any = model
    properties: dict[int, set[str]] = defaultdict(set)
    holders: dict[int, nn.Module] = {}
    for module, names in _cut_names(model, plan):
        holders[id(module)] = module
        properties[id(module)] |= names
    for key, module in holders.items():
        vars(module)[CUTS] = {}
        if module is not model:
            module.__class__ = _converted(type(module), frozenset(properties[key]), False)
    model.__class__ = _converted(type(model), frozenset(properties.get(id(model), ())), True)
    vars(model).setdefault(CUTS, {})
    root.plan = plan
    by_labels: dict[tuple[str, ...], list[Callable[..., Update]]] = defaultdict(list)
    for labels, reader in readers:
        by_labels[labels].append(reader)
    vars(model)["_readers"] = dict(by_labels)
    vars(model)["_switches"] = [(labels, {}) for labels in by_labels]
    root.route = None
    return model


def _names(kind: type[nn.Module]) -> set[str]:
    """Return the public attributes that classes above ``nn.Module`` define."""
    own = {name for base in kind.__mro__ for name in vars(base) if base not in nn.Module.__mro__}
    return {name for name in own if not name.startswith("_")}


def _converted(kind: Any, names: frozenset[str], root: bool) -> type[nn.Module]:
    """Return a subclass that reads some attributes as they are cut; the same one each time."""
    made = _CLASSES.get((kind, names, root))
    if made is None:
        made = _CLASSES[kind, names, root] = _subclass(kind, names, root)
    return made


def _blank(kind: Any, names: frozenset[str], root: bool) -> nn.Module:
    """Return a converted module without its state."""
    made = _converted(kind, names, root)
    blank: nn.Module = made.__new__(made)
    return blank


def _subclass(kind: Any, names: frozenset[str], root: bool) -> type[nn.Module]:
    bases: list[type] = [ElasticModel] if root else []
    if issubclass(kind, _BatchNorm):
        bases.append(ConvertedNorm)
    own: dict[str, Any] = {name: property(partial(_read, name)) for name in names}
    if "forward" in names:
        own["forward"] = property(_forward)
    own |= {
        "original": kind,
        "cut_attributes": names,
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
    }
    return type(kind.__name__, (*bases, Converted, kind), own)


def _read(name: str, module: nn.Module) -> Any:
    held = vars(module)
    cut = held[CUTS].get(name)
    if name in held:  # a whole number, or a tuple of such
        return held[name] if cut is None else cut
    tensor = held["_parameters"].get(name)
    if tensor is None:
        tensor = held["_buffers"].get(name)
    return tensor if cut is None or tensor is None else cut(tensor)


def _forward(module: Any) -> Any:
    held = vars(module)
    set_here = held.get("forward")  # what others put before it, for a while
    return set_here or held[CUTS].get("forward") or partial(module.original.forward, module)


def _owners(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Return, by a tensor's first name, the modules that hold it, and its name there."""
    first: dict[int, str] = {}
    owners: dict[str, list[tuple[nn.Module, str]]] = {}
    for path, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                whole = first.setdefault(id(tensor), f"{path}.{name}" if path else name)
                owners.setdefault(whole, []).append((module, name))
    return owners


def _tensor_axes(plan: Plan) -> dict[str, dict[int, list[int]]]:
    """Return, by tensor and dimension, the axes that lie there."""
    lying: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, axis in plan.axes.items():
        for name, dim in axis.places:
            lying[name][dim].append(number)
    return lying


def _cut_names(model: nn.Module, plan: Plan) -> Iterator[tuple[nn.Module, set[str]]]:
    owners, modules = _owners(model), dict(model.named_modules())
    kernels = {f"{kernel.path}.weight" for kernel in plan.kernels}
    for name in (*_tensor_axes(plan), *kernels):
        for module, own in owners[name]:
            yield module, {own}
    for origin in plan.counts:
        yield modules[origin.module], {origin.attribute}
    for kernel in plan.kernels:
        yield modules[kernel.path], {"padding", "kernel_size"}
    for skip in plan.skips:
        yield modules[skip.path], {"forward"}


def _readers(model: nn.Module, plan: Plan) -> list[Reader]:
    """Return what sets each module's cuts, with the labels that each depends on."""
    owners, modules = _owners(model), dict(model.named_modules())
    lying, kernels = _tensor_axes(plan), {f"{k.path}.weight": k for k in plan.kernels}
    readers: list[Reader] = []
    for name in dict.fromkeys((*lying, *kernels)):
        dims, kernel = lying.get(name, {}), kernels.get(name)
        numbers = dict.fromkeys(n for several in dims.values() for n in several)
        labels = [plan.axes[n].label for n in numbers] + ([kernel.label] if kernel else [])
        for module, own in owners[name]:
            reader = partial(_tensor_update, plan, module, own, name, dims, kernel)
            readers.append((tuple(labels), reader))
    by_attribute: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for origin, count in plan.counts.items():
        by_attribute[origin.module, origin.attribute].append((origin.at, count))
    for (path, attribute), counts in by_attribute.items():
        axes = dict.fromkeys(number for _, count in counts for number in count.per_unit)
        labels = [plan.axes[number].label for number in axes]
        reader = partial(_number_update, plan, modules[path], attribute, counts)
        readers.append((tuple(labels), reader))
    for kernel in plan.kernels:
        for attribute in ("padding", "kernel_size"):
            reader = partial(_kernel_update, modules[kernel.path], kernel, attribute)
            readers.append(((kernel.label,), reader))
    for skip in plan.skips:
        readers.append(((skip.label,), partial(_skip_update, modules[skip.path], skip)))
    return readers


def _tensor_update(
    plan: Plan,
    module: nn.Module,
    own: str,
    name: str,
    dims: Mapping[int, list[int]],
    kernel: Kernel | None,
    arch: Mapping[str, Value],
) -> Update:
    sizes = plan.shapes[name]
    kept: dict[int, Tensor] = {}
    for dim, numbers in dims.items():
        left_out = [plan.axes[n].places[name, dim][plan.units(n, arch) :] for n in numbers]
        kept[dim] = kept_positions(sizes[dim], left_out)
    if kernel is not None:
        size, edge = kernel.cut(arch)
        kept |= {dim: torch.arange(edge, edge + size) for dim in range(2, len(sizes))}
    return vars(module)[CUTS], own, cut_of(kept, sizes)


def _number_update(
    plan: Plan, module: nn.Module, attribute: str, counts: list[Any], arch: Mapping[str, Value]
) -> Update:
    axes = {number for _, count in counts for number in count.per_unit}
    kept, value = {number: plan.units(number, arch) for number in axes}, vars(module)[attribute]
    if counts[0][0] is None:
        return vars(module)[CUTS], attribute, counts[0][1].at(kept)
    if isinstance(value, tuple | list):
        entries = list(value)
        for at, count in counts:
            entries[at] = count.at(kept)
        return vars(module)[CUTS], attribute, type(value)(entries)
    numbers = {at: count.at(kept) for at, count in counts}
    return vars(module)[CUTS], attribute, changed(value, numbers)


def _kernel_update(
    module: nn.Module, kernel: Kernel, attribute: str, arch: Mapping[str, Value]
) -> Update:
    size, edge = kernel.cut(arch)
    if attribute == "kernel_size":
        return vars(module)[CUTS], attribute, (size,) * len(kernel.padding)
    padding = zip(kernel.padding, kernel.dilation, strict=True)
    return vars(module)[CUTS], attribute, tuple(p - edge * d for p, d in padding)


def _skip_update(module: nn.Module, skip: Skip, arch: Mapping[str, Value]) -> Update:
    left_out = arch.get(skip.label, 1) == 0
    return vars(module)[CUTS], "forward", Skipped(skip.zero, skip.nones) if left_out else None


def _plain_copy(model: ElasticModel, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
    """Return a copy of the active part; tensors and modules that are left out are not copied."""
    skipped = [skip for skip in model.plan.skips if arch.get(skip.label, 1) == 0]
    modules = dict(model.named_modules())
    for skip in skipped:
        memo[id(modules[skip.path])] = Skipped(skip.zero, skip.nones).train(model.training)
    for module in modules.values():
        for name, cut in vars(module).get(CUTS, {}).items():
            tensor = module._parameters.get(name)
            if tensor is None:
                tensor = module._buffers.get(name)
            if isinstance(cut, Cut) and isinstance(tensor, Tensor):
                part = cut(tensor.detach()).clone(memory_format=torch.contiguous_format)
                is_weight = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = (
                    nn.Parameter(part, requires_grad=tensor.requires_grad) if is_weight else part
                )
    held = {name: vars(model).pop(name) for name in sorted(STATE - {CUTS})}
    try:
        plain = copy.deepcopy(model, memo)
    finally:
        vars(model).update(held)
    for module in plain.modules():
        if isinstance(module, Converted):
            _restore(module)
    return plain


def _restore(module: Any) -> None:
    """Make a module of an elastic model one of the original's class."""
    held = vars(module)
    for name, value in held.pop(CUTS).items():
        if name in held and value is not None and name != "forward":
            held[name] = value
    held.pop("label", None)
    module.__class__ = module.original
    _name_sizes(module)


def _name_sizes(module: Any) -> None:
    """Let the sizes that layers of PyTorch show, and check, be those of their weights."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, _BatchNorm) and module.running_mean is not None:
        module.num_features = len(module.running_mean)
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]
    elif isinstance(module, nn.GroupNorm) and module.weight is not None:
        module.num_channels = len(module.weight)
