"""The parameters of every architecture, as a tree of parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from torch import nn

from raynas.costs.parts import Part, Rule, Switch
from raynas.costs.plain import PlainLayers, labels_of
from raynas.costs.rules import check_known, choice_rule, depth_rule, origins, values_rule
from raynas.nn.choice import LayerChoice
from raynas.nn.edge import Edge
from raynas.nn.elastic import Elastic
from raynas.nn.inputs import InputChoice
from raynas.nn.mutable import Mutable
from raynas.nn.repeat import Repeat


def params_tree(model: nn.Module, plain: PlainLayers) -> Part:
    """Return the tree of parameters, those of modules that no pass runs included.

    Raises:
        Varies: a mutable is of no known kind, or an elastic layer has too many forms.
    """
    part = Part()
    _add_params(model, part, plain, origins(model))
    return part


def _add_params(
    module: nn.Module, part: Part, plain: PlainLayers, sources: Mapping[Edge, tuple[str, ...]]
) -> None:
    def switched(rule: Rule, modules: Sequence[nn.Module]) -> None:
        parts = [Part() for _ in modules]
        for candidate, inner in zip(modules, parts, strict=True):
            _add_params(candidate, inner, plain, sources)
        part.switches.append(Switch(rule, parts))

    if isinstance(module, Elastic) and not module.leaves():
        part.params |= plain.params(module)
    elif isinstance(module, Elastic):
        part.switches.append(_elastic_params(module, plain))
    elif isinstance(module, LayerChoice):
        switched(choice_rule(module, sources), module.layers())
    elif isinstance(module, Repeat) and not isinstance(module.depth, int):
        switched(depth_rule(module), list(module.blocks))
    elif not isinstance(module, InputChoice):
        if isinstance(module, Mutable):
            check_known(module)
        part.params |= {id(p): p.numel() for p in module.parameters(recurse=False)}
        for child in module.children():
            _add_params(child, part, plain, sources)


def _elastic_params(layer: Elastic, plain: PlainLayers) -> Switch:
    rule = values_rule(plain, labels_of(layer))
    parts = []
    for values in product(*rule.domains):
        with plain.taking(dict(zip(rule.labels, values, strict=True))):
            parts.append(Part(params=plain.params(layer)))
    return Switch(rule, parts)
