"""What a network or a space costs, asked without a search."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from raynas.core.config import ComponentSpec
from raynas.core.constraints import Constraints
from raynas.core.fixed import read_arch
from raynas.core.metrics import KV_CACHE
from raynas.setup.resolve import mapping, resolve_space

if TYPE_CHECKING:
    from raynas.costs.network_cost import Cost
    from raynas.report.profile import SpaceProfile


def cost(
    what: Any,
    arch: Any = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    example: Any = None,
) -> Cost:
    """Return parameters, multiply-accumulates and peak activation bytes of one example's pass.

    Args:
        what: a module, or a class or function that builds one, with ``input_shape``; or a
            ModelSpace, or the name of a registered one.
        arch: which of its architectures, if it has choices; of a space, also in the forms that
            ModularNAS writes.
        input_shape: of one example, without the batch.
        example: a batch of one in its place, for networks that take a tuple or dict of tensors, or
            whole numbers.

    Raises:
        ValueError: the input shape, or a space's architecture, is missing.
        TypeError: ``what`` is none of these, or the input shape is no tuple of whole numbers.
    """
    from torch import nn

    from raynas.costs.elastic_costs import with_cache
    from raynas.costs.network_cost import cost_of
    from raynas.nn.construct.described import described_arch
    from raynas.nn.modelspace import ModelSpace
    from raynas.nn.mutable import freeze, mutables, space_of

    given, net = example_of(input_shape, example), None
    if isinstance(what, str):
        what = resolve_space(what, {}, None).model_space
    elif callable(what) and not isinstance(what, nn.Module):
        what = ModelSpace(what).supernet()
    elif not isinstance(what, nn.Module | ModelSpace):
        raise TypeError(
            "expected a module, a ModelSpace, a registered space's name, or a class or function "
            f"that builds a module, got {what!r}"
        )
    if isinstance(what, ModelSpace):
        if arch is None:
            raise ValueError("the cost of a space depends on the architecture: pass arch=")
        measured = cost_of(what.build(arch), what.example_input() if given is None else given)
        if KV_CACHE not in what.costs:
            return measured
        net = what.supernet()
        return with_cache(measured, net, described_arch(what.arch_space, what.supernet, arch))
    if any(mutables(what)):
        if arch is None:
            raise ValueError("the cost of a model with choices depends on them: pass arch=")
        net, what = what, freeze(what, arch)
    if given is None:
        raise ValueError("pass input_shape=, the shape of one example without the batch")
    measured = cost_of(what, given)
    return measured if net is None else with_cache(measured, net, read_arch(space_of(net), arch))


def profile(
    space: Any,
    *,
    constraints: Constraints | None = None,
    latency: Any = None,
    samples: int = 1000,
    seed: int = 0,
    space_options: Mapping[str, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
    example: Any = None,
) -> SpaceProfile:
    """Return what a space costs, before anything is trained: print it, or read its fields.

    Args:
        space: as for ``search``, or a model with choices; but no plain ArchSpace, which has no
            costs.
        constraints: from metric to (low, high), or texts such as ``"macs<60e6"``; whether each can
            be met, and by which share of the space, is part of the answer.
        latency: a LatencyTable, or the path of one; or ``cpu`` or ``gpu``, measured here, operator
            by operator.
        samples: architectures to draw for the median and the shares.
        seed: fixes the draws.
        space_options: of a registered space.
        input_shape: of one example, where the space does not know it.
        example: a batch of one in its place, as for ``cost``.

    Raises:
        ValueError: a malformed or contradictory constraint, or one on a metric that is not known
            before training; or the input shape is not known.
        TypeError: ``space`` is none of these, or the input shape is no tuple of whole numbers.
    """
    from torch import nn

    from raynas.core.constraints import as_constraints
    from raynas.costs import CostTable, LatencyTable
    from raynas.costs.coverage import converted
    from raynas.costs.timing import latency_from
    from raynas.nn.conversion.elastic_space import ElasticSpace
    from raynas.nn.modelspace import ModelSpace
    from raynas.report.profile import check_metrics, space_profile

    wanted = as_constraints(constraints)
    if isinstance(space, nn.Module):
        space = ModelSpace(partial(copy.deepcopy, space), name=type(space).__name__)
        space.spec = ComponentSpec(name=space.name)
    searched = resolve_space(space, mapping("space_options", space_options), None)
    if searched.model_space is None:
        raise TypeError("an ArchSpace has no networks whose costs could be told")
    model, name = searched.model_space, searched.spec.name.rpartition(":")[2]
    if isinstance(model, ElasticSpace):
        name = model.name
    check_metrics(wanted, model.costs, latency is not None)
    given = example_of(input_shape, example)
    if given is None and model.signature is None:
        raise ValueError(
            f"the input shape of {name} is not known; pass input_shape= (--input-shape), such as "
            "(3, 32, 32) for images"
        )
    example = model.example_input() if given is None else given
    supernet = model.supernet()
    if latency is not None and not isinstance(latency, LatencyTable):
        latency = latency_from(latency, supernet, example)
    table = CostTable(supernet, example)
    return space_profile(
        name,
        searched.arch_space,
        table,
        constraints=wanted,
        latency=latency,
        samples=samples,
        seed=seed,
        conversion=converted(model.plan, supernet) if isinstance(model, ElasticSpace) else None,
    )


def example_of(shape: object, example: Any) -> Any:
    """Return a batch of one, by its shape or as it was given; None if neither is.

    Raises:
        TypeError: both are, or the shape is no tuple of whole numbers.
    """
    import torch

    from raynas.core.nest import paths, taken

    if shape is None:
        if example is None:
            return None
        flat = [at for at, leaf in paths(example) if not leaf.dim()]
        if flat:
            raise ValueError(
                "example: expected a batch, whose tensors have the examples as first dimension, "
                f"got a tensor of shape () {f'at {flat[0]}' if flat[0] else ''}".rstrip()
            )
        return taken(example, slice(1))
    if example is not None:
        raise TypeError("pass either input_shape= or example=, an example tells its shape")
    sizes = tuple(shape) if isinstance(shape, list | tuple) else ()
    if not isinstance(shape, list | tuple) or any(type(n) is not int or n < 1 for n in sizes):
        raise TypeError(
            "input_shape: expected a tuple of positive whole numbers without the batch, such as "
            f"(3, 32, 32), got {shape!r}"
        )
    return torch.zeros(1, *sizes)
