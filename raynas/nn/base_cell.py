"""What the two kinds of cells share: a small graph of nodes, and operations on its edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision
from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.core.fixed import read_arch
from raynas.core.plain_values import as_lists
from raynas.nn.choice import one_label
from raynas.nn.edge import Candidates, Edge, edge_layers
from raynas.nn.fixed_cell import FixedCell, concatenated, first_merged, split_inputs
from raynas.nn.mutable import (
    SKIP,
    Memo,
    Mutable,
    activate_unchecked,
    frozen,
    inner_space,
    merged,
)

Sources = tuple[str, ...]
MergeOp = Literal["all", "loose_end", "unread"]


class BaseCell(Mutable):
    """A graph of nodes, each the sum of operations on earlier nodes or the cell's own inputs.

    Sources are ``s0``, ``s1``, … (the inputs) and ``n0``, ``n1``, … (earlier nodes). A node has one
    or several slots; a slot has an edge from every source that it may read. A subclass says how
    many slots there are, and which decisions pick among their edges.

    Args:
        op_candidates: operations by name or in a list, each a module (copied for every edge) or a
            function of (node, operation, source) positions; or one function of (node, source)
            positions that returns an edge's operations by name.
        num_nodes: nodes besides the inputs.
        num_ops_per_node: operations that are summed in a node.
        num_predecessors: inputs of the cell.
        merge_op: ``all`` concatenates all nodes, ``loose_end`` those that no other node reads,
            ``unread`` these and the sources of inputs that no node reads.
        preprocessor: applied to the list of inputs, returns the list of sources.
        postprocessor: applied to (output, list of inputs), returns what the cell returns.
        concat_dim: of the output.
        label: cells of one label decide together; None takes the module's path in the model.
        key: another word for ``label``.

    Raises:
        InvalidSpace: no nodes or operations.

    Attributes:
        sources: of every node.
    """

    holders = ("edges",)
    described_once = True
    is_scope = True  # choices inside candidates are labelled below the cell's own label

    def __init__(
        self,
        op_candidates: Candidates,
        num_nodes: int,
        num_ops_per_node: int = 1,
        num_predecessors: int = 1,
        merge_op: MergeOp = "all",
        preprocessor: nn.Module | None = None,
        postprocessor: nn.Module | None = None,
        concat_dim: int = 1,
        label: str | None = None,
        *,
        key: str | None = None,
    ) -> None:
        super().__init__()
        self.label = one_label("Cell", label, key)
        self.pre, self.post = preprocessor, postprocessor
        self._check_counts(num_nodes, num_ops_per_node, num_predecessors)
        self._check_word("merge_op", merge_op, get_args(MergeOp))
        self._check_processors()
        self.num_predecessors, self.keep = num_predecessors, num_ops_per_node
        self.merge_op, self.concat_dim = merge_op, concat_dim
        inputs = [f"s{i}" for i in range(num_predecessors)]
        self.sources = [(*inputs, *(f"n{k}" for k in range(i))) for i in range(num_nodes)]
        self.edges = nn.ModuleDict()
        for node, slot, _ in self._slots():
            self._add_edges(op_candidates, node, slot)
        self._label_edges()

    def _add_edges(self, candidates: Candidates, node: int, slot: int) -> list[Edge]:
        named = not isinstance(candidates, list | tuple | nn.ModuleList)
        edges = []
        for at, source in enumerate(self.sources[node]):
            where = f"{self._where}, edge n{node} from {source}"
            edge = Edge(edge_layers(candidates, node, slot, at, where), source, named=named)
            if not edge.real:
                raise InvalidSpace(f"{self._where}: an edge needs an operation, not zeros")
            self.edges[self._edge_name(node, slot, source)] = edge
            edges.append(edge)
        return edges

    @property
    def _where(self) -> str:
        return f"Cell {self.label!r}" if self.label else "Cell"

    def _check_counts(self, nodes: int, ops: int, inputs: int) -> None:
        for name, count in (
            ("num_nodes", nodes),
            ("num_ops_per_node", ops),
            ("num_predecessors", inputs),
        ):
            if type(count) is not int or count < 1:
                raise InvalidSpace(
                    f"{self._where}: {name} must be a whole number of at least 1, got {count!r}"
                )

    def _check_word(self, name: str, word: str, valid: tuple[str, ...]) -> None:
        if word not in valid:
            raise InvalidSpace(f"{self._where}: {name} is one of {valid}, got {word!r}")

    def _check_processors(self) -> None:
        for name, part in (("preprocessor", self.pre), ("postprocessor", self.post)):
            if part is not None and not isinstance(part, nn.Module):
                raise InvalidSpace(f"{self._where}: {name} must be an nn.Module, got {part!r}")

    @property
    def slots_per_node(self) -> int:
        """How many slots a node has, each with edges of its own."""
        raise TypeError(f"{type(self).__name__} must define slots_per_node")

    def _edge_name(self, node: int, slot: int, source: str) -> str:
        raise TypeError(f"{type(self).__name__} must define _edge_name()")

    def _edge_labels(self, node: int, slot: int, source: str) -> tuple[str, str]:
        """Return the labels of the decisions on a slot's sources and on the edge's operation."""
        raise TypeError(f"{type(self).__name__} must define _edge_labels()")

    def _slot_decisions(self, sources: Sources, edges: Sequence[Edge]) -> tuple[Decision, ...]:
        raise TypeError(f"{type(self).__name__} must define _slot_decisions()")

    def _source_decisions(self, node: int, picked: Sequence[str]) -> dict[str, Any]:
        """Return by label what a node's sources are, given those of its operations in order."""
        raise TypeError(f"{type(self).__name__} must define _source_decisions()")

    def _in_edge_weights(self, node: int) -> Sequence[Tensor] | None:
        """Return a factor for each of a node's in-edges, None for none."""
        return None

    def edge(self, node: int, source: str, slot: int = 0) -> Edge:
        """Return the edge from a source to a node."""
        edge = self.edges[self._edge_name(node, slot, source)]
        assert isinstance(edge, Edge)
        return edge

    def _slots(self) -> list[tuple[int, int, Sources]]:
        slots = range(self.slots_per_node)
        return [(i, slot, sources) for i, sources in enumerate(self.sources) for slot in slots]

    def name_values(self, path: str) -> None:
        """Label the edges, once the cell has a label."""
        self._label_edges()

    def _label_edges(self) -> None:
        for node, slot, sources in self._slots():
            for source in sources:
                edge = self.edge(node, source, slot)
                edge.from_label, edge.label = self._edge_labels(node, slot, source)

    def _operation(self, edges: Sequence[Edge]) -> Choice:
        """Return the choice between real operations, with what they open on any of the edges."""
        first = edges[0]
        options = tuple(first.options[at] for at in first.real)
        opens = {}
        for option in options:
            spaces = [inner_space(e.layers()[e.options.index(option)]) for e in edges]
            if inner := merged(d for space in spaces for d in space.choices):
                opens[option] = ArchSpace(inner)
        return Choice(str(first.label), options, opens)

    def choices(self) -> tuple[Decision, ...]:
        """Return the nodes' decisions; a picked source opens its operation."""
        decisions = list(self._processor_decisions())
        for node, slot, sources in self._slots():
            edges = [self.edge(node, source, slot) for source in sources]
            decisions += self._slot_decisions(sources, edges)
        return tuple(decisions)

    def _processors(self) -> list[nn.Module]:
        return [part for part in (self.pre, self.post) if part is not None]

    def _processor_decisions(self) -> tuple[Decision, ...]:
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
        read: set[int] = set()
        for node, sources in enumerate(self.sources):
            terms = None
            weights = self._in_edge_weights(node)
            for slot in range(self.slots_per_node):
                for at, source in enumerate(sources):
                    edge = self.edge(node, source, slot)
                    if edge.route != SKIP:
                        term = edge(states[at], *rest, **kwargs)
                        if weights is not None:
                            term = weights[at] * term
                        terms = term if terms is None else terms + term
                        read.add(at)
            states.append(terms)
        # A state that is left out since others read it counts as zeros: the output's shape stays.
        left_out = () if self.merge_op == "all" else read
        first = first_merged(self.merge_op, self.num_predecessors)
        out = concatenated(states, first, left_out, self.concat_dim)
        return out if self.post is None else self.post(out, list(given))

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let the picked edges run their operations, and no others."""
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
        cell = FixedCell(
            edges,
            wiring,
            *(None if part is None else frozen(part, arch, memo) for part in (self.pre, self.post)),
            num_predecessors=self.num_predecessors,
            merge_op=self.merge_op,
            concat_dim=self.concat_dim,
        )
        cell.training = cell.edges.training = self.training  # what is inside keeps its own mode
        return cell

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
        beside = ArchSpace(self._processor_decisions())
        if not beside.choices:
            return nodes
        inner = {label: as_lists(arch[label]) for label in beside.reached(arch)}
        return {"nodes": nodes, "beside": inner}

    def parsed(self, description: Any) -> dict[str, Value]:
        """Read what ``describe`` wrote."""
        decisions: dict[str, Any] = {}
        if (beside := ArchSpace(self._processor_decisions())).choices:
            if not isinstance(description, Mapping) or set(description) != {"nodes", "beside"}:
                raise InvalidArch(
                    f"{self.label!r}: expected a dict of nodes and beside, got {description!r}"
                )
            if not isinstance(description["beside"], Mapping):
                raise InvalidArch(f"{self.label!r}: beside must map labels to choices")
            decisions |= read_arch(beside, description["beside"])
            description = description["nodes"]
        if not isinstance(description, list | tuple) or len(description) != len(self.sources):
            raise InvalidArch(
                f"{self.label!r}: expected a list of {len(self.sources)} nodes, got {description!r}"
            )
        for node, operations in enumerate(description):
            if not isinstance(operations, list | tuple):
                raise InvalidArch(
                    f"{self.label!r}, node {node}: expected a list, got {operations!r}"
                )
            picked = [self._parsed_operation(o, node, at) for at, o in enumerate(operations)]
            decisions |= self._source_decisions(node, [source for source, _ in picked])
            for _, inner in picked:
                decisions |= inner
        return dict(read_arch(ArchSpace(self.choices()), decisions))

    def _parsed_operation(
        self, operation: Any, node: int, position: int
    ) -> tuple[str, dict[str, Value]]:
        """Return the source and the decisions of one ``[[operation], [source], node]``."""
        sources = self.sources[node]
        try:
            name, (at,), target = operation
            source = sources[at] if at >= 0 else None
        except (TypeError, ValueError, IndexError):
            source, target, name = None, None, None
        if source is None or target != node + self.num_predecessors:
            raise InvalidArch(
                f"{self.label!r}, node {node}: expected [[operation], [source below "
                f"{len(sources)}], {node + self.num_predecessors}], got {operation!r}"
            )
        edge = self.edge(node, source, min(position, self.slots_per_node - 1))
        return source, edge.parsed(name)
