"""Families of models by construction: whole they are the model, and each part is a smaller one."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.nest import Nest
from raynas.nn import activate, freeze
from raynas.nn.conversion.elastic_space import ElasticSpace
from raynas.nn.conversion.laws import outputs
from tests.families import FAMILIES, Family

FEW = (
    "torchvision efficientnet",
    "torchvision swin",
    "timm vit",
    "timm convnextv2",
    "transformers Llama",
    "transformers T5",
)
ARCHITECTURES = 6


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FEW else pytest.mark.full) for n in FAMILIES],
)
def test_a_family_is_elastic(name: str) -> None:
    family = FAMILIES[name]
    model, example = family.build(), family.example()
    space = raynas.elastic(model, example, width=True, heads=True, ffn=True, depth=True, kernel=[3])
    net = space.supernet().eval()
    _is_the_model(net, model, example)
    _keeps_its_coverage(space, family)
    _copies_alike(net, example)
    rng = np.random.default_rng(0)
    for _ in range(ARCHITECTURES):
        arch = space.arch_space.sample(rng)
        activate(net, arch)
        active, plain = outputs(net, example), freeze(net, arch)
        assert type(plain) is type(model)
        assert plain.state_dict().keys() <= model.state_dict().keys()
        assert _worst(active, outputs(plain, example)) <= 1e-12
    _equals_masked(space, model, net, example)
    smallest = space.arch_space.decided(lambda decision: decision.options[-1])
    assert _parameters(freeze(net, smallest)) <= family.smallest * _parameters(model)


def _is_the_model(net: nn.Module, model: nn.Module, example: Nest) -> None:
    assert net.state_dict().keys() == model.state_dict().keys()
    assert _worst(outputs(model, example), outputs(net, example)) <= 1e-12


def _keeps_its_coverage(space: ElasticSpace, family: Family) -> None:
    labels = space.plan.largest
    assert space.coverage >= family.coverage, space.fixed
    for label in family.labels:
        assert label in labels, sorted(labels)


def _copies_alike(net: nn.Module, example: Nest) -> None:
    whole = outputs(net, example)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert _worst(whole, outputs(other, example)) == 0.0


def _equals_masked(space: ElasticSpace, model: nn.Module, net: nn.Module, example: Nest) -> None:
    """Cut what nothing is computed over together, and set the same to zero in the model."""
    exact = {n: axis for n, axis in space.plan.axes.items() if not axis.statistic}
    arch = space.plan.largest | {axis.label: axis.options[-1] for axis in exact.values()}
    masked = copy.deepcopy(model)
    tensors = dict(masked.named_parameters()) | dict(masked.named_buffers())
    with torch.no_grad():
        for axis in exact.values():
            for (name, dim), positions in axis.places.items():
                gone = positions[axis.kept(arch[axis.label]) :].flatten()
                tensors[name].index_fill_(dim, gone, 0)
    activate(net, arch)
    cut, whole = outputs(net, example), outputs(masked, example)
    largest = max(float(t.abs().max()) for t in whole)
    assert _worst(cut, whole) <= (1e-9 if _is_exact(masked, example) else 2e-4) * largest


def _is_exact(model: nn.Module, example: Nest) -> bool:
    """Return whether a model computes all in float64: Llama's norms are of float32."""
    from raynas.nn.conversion.rules import RULES
    from raynas.nn.conversion.trace import Trace

    trace = Trace(model, RULES)
    trace.run(copy.deepcopy(model), example)
    return trace.dtypes == {torch.float64}


def _worst(ours: list[Tensor], theirs: list[Tensor]) -> float:
    pairs = zip(ours, theirs, strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
