"""A cell: a small graph whose nodes choose their inputs and the operations on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.arch import Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.core.fixed import read_arch
from raynas.nn.choice import LayerChoice, one_label
from raynas.nn.edge_layers import Candidates, edge_layers
from raynas.nn.fixed_cell import FixedCell, split_inputs
from raynas.nn.layout import laid_out
from raynas.nn.logits import Logits, Probabilities, Rank, derived, logits_of
from raynas.nn.mutable import (
    SKIP,
    Memo,
    Mutable,
    activate_unchecked,
    decide_together,
    frozen,
    inner_space,
    merged,
)


class Edge(LayerChoice):
    """The choice between operations from one source to one node, unless it is left out."""

    def __init__(self, layers: Mapping[str, nn.Module], source: str, *, named: bool) -> None:
        super().__init__(layers if named else layers.values(), "edge")
        self.source = source
        self.from_label = ""

    def picked(self, arch: Mapping[str, Value]) -> int:
        """Return the position of the operation, SKIP if the node does not read this source."""
        origin = arch.get(self.from_label)
        taken = self.source in origin if isinstance(origin, tuple) else self.source == origin
        return super().picked(arch) if taken else SKIP


class Cell(Mutable):
    """A graph of nodes, each the sum of operations on earlier nodes or the cell's own inputs.

    Sources are ``s0``, ``s1``, … (the inputs) and ``n0``, ``n1``, … (earlier nodes). With distinct
    inputs (DARTS, arXiv:1806.09055) node i decides ``<label>/n<i>/from``, a set of sources, and for
    each of them ``<label>/n<i>/op/<source>``. With any inputs (NASNet, arXiv:1707.07012) its j-th
    operation decides ``<label>/n<i>/from<j>`` and ``<label>/n<i>/op<j>``. A candidate that gives
    zeros (``none``) takes part in mixtures and is never picked.

    Differs: with ``loose_end`` nodes that others read count as zeros in the output, so that its
    shape is the same under all architectures.

    Args:
        op_candidates: operations by name or in a list, each a module (copied for every edge) or a
            function of (node, operation, source) positions; or one function of (node, source)
            positions that returns an edge's operations by name.
        num_nodes: nodes besides the inputs.
        num_ops_per_node: operations that are summed in a node.
        num_predecessors: inputs of the cell.
        merge_op: ``all`` concatenates all nodes, ``loose_end`` those that no other node reads.
        preprocessor: applied to the list of inputs, returns the list of sources.
        postprocessor: applied to (output, list of inputs), returns what the cell returns.
        concat_dim: of the output.
        label: cells of one label decide together; None takes the module's path in the model.
        inputs: whether a node's sources are ``distinct`` or may be ``any``.
        key: another word for ``label``.

    Raises:
        InvalidSpace: no nodes or operations, or more distinct inputs than there are sources.

    Attributes:
        weigh: returns, by the label of a node's ``from``, a factor for each of its in-edges, or
            None; set while a search runs. It is no part of the state, as a callable route is none.
    """

    weigh: Callable[[str], Sequence[Tensor] | None] | None = None

    holders = ("edges",)
    described_once = True
    is_scope = True  # choices inside candidates are labelled below the cell's own label

    def __init__(
        self,
        op_candidates: Candidates,
        num_nodes: int,
        num_ops_per_node: int = 1,
        num_predecessors: int = 1,
        merge_op: Literal["all", "loose_end"] = "all",
        preprocessor: nn.Module | None = None,
        postprocessor: nn.Module | None = None,
        concat_dim: int = 1,
        label: str | None = None,
        *,
        inputs: Literal["distinct", "any"] = "distinct",
        key: str | None = None,
    ) -> None:
        super().__init__()
        self.label = one_label("Cell", label, key)
        self.pre, self.post = preprocessor, postprocessor
        self._check(num_nodes, num_ops_per_node, num_predecessors, merge_op, inputs)
        self.num_predecessors, self.keep = num_predecessors, num_ops_per_node
        self.distinct, self.merge_op, self.concat_dim = inputs == "distinct", merge_op, concat_dim
        given = [f"s{i}" for i in range(num_predecessors)]
        self.sources = [(*given, *(f"n{k}" for k in range(i))) for i in range(num_nodes)]
        self.edges = nn.ModuleDict()
        slots = range(1) if self.distinct else range(num_ops_per_node)
        for node, sources in enumerate(self.sources):
            for slot in slots:
                edges = [
                    self._edge(op_candidates, node, slot, at, source)
                    for at, source in enumerate(sources)
                ]
                if not self.distinct:
                    for edge in edges[1:]:
                        for ours, theirs in zip(edge.layers(), edges[0].layers(), strict=False):
                            decide_together(ours, theirs)
        self._name_edges()

    def _edge(self, candidates: Candidates, node: int, slot: int, at: int, source: str) -> Edge:
        layers = edge_layers(
            candidates, node, slot, at, f"{self._where}, edge n{node} from {source}"
        )
        edge = Edge(layers, source, named=not isinstance(candidates, list | tuple | nn.ModuleList))
        if not self._real(edge):
            raise InvalidSpace(f"{self._where}: an edge needs an operation, not zeros")
        self.edges[self._edge_name(node, slot, source)] = edge
        return edge

    @property
    def _where(self) -> str:
        return f"Cell {self.label!r}" if self.label else "Cell"

    def _check(self, nodes: int, ops: int, inputs: int, merge_op: str, style: str) -> None:
        for name, value in (
            ("num_nodes", nodes),
            ("num_ops_per_node", ops),
            ("num_predecessors", inputs),
        ):
            if type(value) is not int or value < 1:
                raise InvalidSpace(
                    f"{self._where}: {name} must be a whole number of at least 1, got {value!r}"
                )
        for name, given, known in (
            ("merge_op", merge_op, ("all", "loose_end")),
            ("inputs", style, ("distinct", "any")),
        ):
            if given not in known:
                raise InvalidSpace(f"{self._where}: {name} is one of {known}, got {given!r}")
        for name, part in (("preprocessor", self.pre), ("postprocessor", self.post)):
            if part is not None and not isinstance(part, nn.Module):
                raise InvalidSpace(f"{self._where}: {name} must be an nn.Module, got {part!r}")
        if style == "distinct" and ops > inputs:
            raise InvalidSpace(
                f"{self._where}: node 0 picks {ops} of only {inputs} sources; use inputs='any', or "
                "more predecessors"
            )

    def _edge_name(self, node: int, slot: int, source: str) -> str:
        return f"n{node}_{source}" if self.distinct else f"n{node}_{slot}_{source}"

    def edge(self, node: int, source: str, slot: int = 0) -> Edge:
        """Return the edge from a source to a node."""
        edge = self.edges[self._edge_name(node, slot, source)]
        assert isinstance(edge, Edge)
        return edge

    def _slots(self) -> list[tuple[int, int, tuple[str, ...]]]:
        slots = range(1) if self.distinct else range(self.keep)
        return [(i, slot, sources) for i, sources in enumerate(self.sources) for slot in slots]

    def name_values(self, path: str) -> None:
        """Label the edges, once the cell has a label."""
        self._name_edges()

    def _name_edges(self) -> None:
        for node, slot, sources in self._slots():
            base = f"{self.label}/n{node}"
            for source in sources:
                edge = self.edge(node, source, slot)
                edge.label = f"{base}/op/{source}" if self.distinct else f"{base}/op{slot}"
                edge.from_label = f"{base}/from" if self.distinct else f"{base}/from{slot}"

    @staticmethod
    def _real(edge: Edge) -> tuple[int, ...]:
        return tuple(at for at in range(len(edge.names)) if at != edge.none)

    def _operation(self, edges: Sequence[Edge]) -> Choice:
        """Return the choice between real operations, with what they open on any of the edges."""
        first = edges[0]
        options = tuple(first.options[at] for at in self._real(first))
        opens = {}
        for option in options:
            places = [inner_space(e.layers()[e.options.index(option)]) for e in edges]
            if inner := merged(d for space in places for d in space.choices):
                opens[option] = ArchSpace(inner)
        return Choice(str(first.label), options, opens)

    def choices(self) -> tuple[Decision, ...]:
        """Return the nodes' decisions; a picked source opens its operation."""
        found: list[Decision] = list(self._beside())
        for node, slot, sources in self._slots():
            edges = [self.edge(node, source, slot) for source in sources]
            label = edges[0].from_label
            if self.distinct:
                opens: dict[Atom, ArchSpace] = {
                    edge.source: ArchSpace((self._operation([edge]),)) for edge in edges
                }
                found.append(Subset(label, sources, self.keep, opens))
            else:
                found += [Choice(label, sources), self._operation(edges)]
        return tuple(found)

    def _processors(self) -> list[nn.Module]:
        return [part for part in (self.pre, self.post) if part is not None]

    def _beside(self) -> tuple[Decision, ...]:
        """Return the decisions inside the pre- and postprocessor."""
        return merged(d for part in self._processors() for d in inner_space(part).choices)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Return the cell's output.

        Args:
            inputs: the predecessors' outputs, in a list or one by one; what comes behind them, and
                keywords, goes to every operation.
            kwargs: for every operation.
        """
        given, rest = split_inputs(inputs, self.num_predecessors, self._where)
        states = list(given if self.pre is None else self.pre(given))
        used: set[int] = set()
        for node, sources in enumerate(self.sources):
            terms = None
            weights = None if self.weigh is None else self.weigh(f"{self.label}/n{node}/from")
            for slot in range(1) if self.distinct else range(self.keep):
                for at, source in enumerate(sources):
                    edge = self.edge(node, source, slot)
                    if edge.route != SKIP:
                        term = edge(states[at], *rest, **kwargs)
                        if weights is not None:
                            term = weights[at] * term
                        terms = term if terms is None else terms + term
                        used.add(at)
            states.append(terms)
        merged = self._merge(states, used)
        return merged if self.post is None else self.post(merged, list(given))

    def _merge(self, states: list[Any], used: set[int]) -> Tensor:
        nodes = range(self.num_predecessors, len(states))
        loose = self.merge_op == "loose_end"
        return torch.cat(
            [
                torch.zeros_like(states[i]) if loose and i in used else laid_out(states[i])
                for i in nodes
            ],
            self.concat_dim,
        )

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let the picked edges run their operations, and no others."""
        self.weigh = None
        for edge in self.edges.values():
            assert isinstance(edge, Edge)
            edge.activate(arch)
        for part in self._processors():
            activate_unchecked(part, arch)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a cell of the picked operations alone."""
        edges: dict[str, nn.Module] = {}
        wiring: list[list[tuple[int, str]]] = [[] for _ in self.sources]
        for node, slot, sources in self._slots():
            for at, source in enumerate(sources):
                edge, name = self.edge(node, source, slot), self._edge_name(node, slot, source)
                if edge.picked(arch) != SKIP:
                    edges[name] = edge.frozen(arch, memo)
                    wiring[node].append((at, name))
        pre, post = (
            None if part is None else frozen(part, arch, memo) for part in (self.pre, self.post)
        )
        return FixedCell(self, edges, wiring, pre, post)

    def logits(self) -> tuple[Logits, ...]:
        """Return a vector for every edge, zeros included; a node's edges compete for its places."""
        if not self.distinct:
            return super().logits()
        found = [v for part in self._processors() for v in logits_of(part).values()]
        for node, sources in enumerate(self.sources):
            for source in sources:
                edge = self.edge(node, source)
                own = Logits(
                    str(edge.label),
                    edge.options,
                    edge.none,
                    node=f"{self.label}/n{node}",
                    keep=self.keep,
                    group=str(self.label),
                    picks_none=False,
                )
                found += [own, *edge.inner_logits()]
        return tuple(found)

    def derive(self, p: Probabilities, rank: Rank) -> dict[str, Value]:
        """Return, per node, the strongest edges and the best real operation on each.

        Where ``p`` has a vector over a node's sources, an edge's strength is multiplied by it.
        """
        found = {k: v for part in self._processors() for k, v in derived(part, p, rank).items()}
        for node, sources in enumerate(self.sources):
            edges = [self.edge(node, source) for source in sources]
            strength = [rank(p[str(edge.label)], edge.none) for edge in edges]
            if (weights := p.get(edges[0].from_label)) is not None:
                strength = [float(s * w) for s, w in zip(strength, weights, strict=True)]
            order = sorted(range(len(edges)), key=lambda at: -strength[at])  # stable: first wins
            kept = [edges[at] for at in sorted(order[: self.keep])]
            found[kept[0].from_label] = tuple(edge.source for edge in kept)
            for edge in kept:
                real = self._real(edge)
                at = real[int(np.argmax(p[str(edge.label)][list(real)]))]
                found[str(edge.label)] = edge.options[at]
                found |= derived(edge.layers()[at], p, rank)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"weigh": None}

    def describe(self, arch: Mapping[str, Value]) -> Any:
        """Return per node a list of ``[[operation], [source], node]``, in positions of sources.

        Where processors hold choices, these stand by label in ``beside``, and that in ``nodes``.
        """
        nodes: list[list[Any]] = [[] for _ in self.sources]
        for node, slot, sources in self._slots():
            for at, source in enumerate(sources):
                edge = self.edge(node, source, slot)
                if edge.picked(arch) != SKIP:
                    target = node + self.num_predecessors
                    nodes[node].append([edge.describe(arch), [at], target])
        beside = ArchSpace(self._beside())
        if not beside.choices:
            return nodes
        inner = {k: list(v) if isinstance(v := arch[k], tuple) else v for k in beside.reached(arch)}
        return {"nodes": nodes, "beside": inner}

    def decided(self, description: Any) -> dict[str, Value]:
        """Read what ``describe`` wrote."""
        found: dict[str, Any] = {}
        if (beside := ArchSpace(self._beside())).choices:
            if not isinstance(description, Mapping) or set(description) != {"nodes", "beside"}:
                raise InvalidArch(
                    f"{self.label!r}: expected a dict of nodes and beside, got {description!r}"
                )
            if not isinstance(description["beside"], Mapping):
                raise InvalidArch(f"{self.label!r}: beside must map labels to choices")
            found |= read_arch(beside, description["beside"])
            description = description["nodes"]
        if not isinstance(description, list | tuple) or len(description) != len(self.sources):
            raise InvalidArch(
                f"{self.label!r}: expected a list of {len(self.sources)} nodes, got {description!r}"
            )
        for node, (pairs, sources) in enumerate(zip(description, self.sources, strict=True)):
            if not isinstance(pairs, list | tuple):
                raise InvalidArch(f"{self.label!r}, node {node}: expected a list, got {pairs!r}")
            picked = [self._pair(pair, node, slot, sources) for slot, pair in enumerate(pairs)]
            label = f"{self.label}/n{node}/from"
            if self.distinct:
                found[label] = [source for source, _ in picked]
            for slot, (source, decisions) in enumerate(picked):
                if not self.distinct:
                    found[f"{label}{slot}"] = source
                found |= decisions
        return dict(read_arch(ArchSpace(self.choices()), found))

    def _pair(
        self, pair: Any, node: int, slot: int, sources: tuple[str, ...]
    ) -> tuple[str, dict[str, Value]]:
        try:
            operation, (at,), target = pair
            source = sources[at] if at >= 0 else None
        except (TypeError, ValueError, IndexError):
            source, target, operation = None, None, None
        if source is None or target != node + self.num_predecessors:
            raise InvalidArch(
                f"{self.label!r}, node {node}: expected [[operation], [source below "
                f"{len(sources)}], {node + self.num_predecessors}], got {pair!r}"
            )
        edge = self.edge(node, source, 0 if self.distinct else min(slot, self.keep - 1))
        return source, edge.decided(operation)
