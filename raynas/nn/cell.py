"""A cell: a small graph whose nodes choose their inputs and the operations on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from raynas.core.arch import Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision, Subset
from raynas.core.errors import InvalidSpace
from raynas.nn.base_cell import BaseCell, MergeOp, Sources
from raynas.nn.edge import Candidates, Edge
from raynas.nn.logits import Logits, Probabilities, Rank
from raynas.nn.mutable import derived, logits_of
from raynas.nn.slot_cell import SlotCell


class Cell(BaseCell):
    """A graph of nodes, each the sum of operations on earlier nodes or the cell's own inputs.

    Sources are ``s0``, ``s1``, … (the inputs) and ``n0``, ``n1``, … (earlier nodes). With distinct
    inputs (DARTS, arXiv:1806.09055) node i decides ``<label>/n<i>/from``, a set of sources, and for
    each of them ``<label>/n<i>/op/<source>``. With any inputs the result is a ``SlotCell`` (NASNet,
    arXiv:1707.07012): its j-th operation decides ``<label>/n<i>/from<j>`` and
    ``<label>/n<i>/op<j>``. A candidate that gives zeros (``none``) takes part in mixtures and is
    never picked.

    Differs: with ``loose_end`` and ``unread``, states that others read count as zeros in the
    output, so that its shape is the same under all architectures.

    Args:
        op_candidates: operations by name or in a list, each a module (copied for every edge) or a
            function of (node, operation, source) positions; or one function of (node, source)
            positions that returns an edge's operations by name.
        num_nodes: nodes besides the inputs.
        num_ops_per_node: operations that are summed in a node.
        num_predecessors: inputs of the cell.
        merge_op: ``all`` concatenates all nodes, ``loose_end`` those that no other node reads,
            ``unread`` these and the sources of inputs that no node reads (ENAS, arXiv:1802.03268).
        preprocessor: applied to the list of inputs, returns the list of sources.
        postprocessor: applied to (output, list of inputs), returns what the cell returns.
        concat_dim: of the output.
        label: cells of one label decide together; None takes the module's path in the model.
        inputs: whether a node's sources are ``distinct`` or may be ``any``.
        key: another word for ``label``.

    Raises:
        InvalidSpace: no nodes or operations, or more distinct inputs than there are sources.

    Attributes:
        edge_weights: returns, by the label of a node's ``from``, a factor for each of its in-edges,
            or None; set while a search runs. It is no part of the state, as a callable route is
            none.
    """

    edge_weights: Callable[[str], Sequence[Tensor] | None] | None = None
    slots_per_node = 1

    def __new__(cls, *args: Any, inputs: str = "distinct", **options: Any) -> Any:
        """Return a SlotCell where a node's sources may be any."""
        if cls is Cell and inputs == "any":
            return SlotCell(*args, **options)
        return super().__new__(cls)

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
        inputs: Literal["distinct", "any"] = "distinct",
        key: str | None = None,
    ) -> None:
        super().__init__(
            op_candidates,
            num_nodes,
            num_ops_per_node,
            num_predecessors,
            merge_op,
            preprocessor,
            postprocessor,
            concat_dim,
            label,
            key=key,
        )
        self._check_word("inputs", inputs, ("distinct", "any"))
        if inputs == "any":
            raise InvalidSpace(
                f"{self._where}: {type(self).__name__} derives from Cell, whose inputs are "
                "distinct; for inputs='any' derive it from raynas.nn.SlotCell"
            )

    def _check_counts(self, nodes: int, ops: int, inputs: int) -> None:
        super()._check_counts(nodes, ops, inputs)
        if ops > inputs:
            raise InvalidSpace(
                f"{self._where}: node 0 picks {ops} of only {inputs} sources; use inputs='any', or "
                "more predecessors"
            )

    def _edge_name(self, node: int, slot: int, source: str) -> str:
        return f"n{node}_{source}"

    def _edge_labels(self, node: int, slot: int, source: str) -> tuple[str, str]:
        return self._from_label(node), f"{self.label}/n{node}/op/{source}"

    def _from_label(self, node: int) -> str:
        return f"{self.label}/n{node}/from"

    def _slot_decisions(self, sources: Sources, edges: Sequence[Edge]) -> tuple[Decision, ...]:
        opens: dict[Atom, ArchSpace] = {e.source: ArchSpace((self._operation([e]),)) for e in edges}
        return (Subset(edges[0].from_label, sources, self.keep, opens),)

    def _source_decisions(self, node: int, picked: Sequence[str]) -> dict[str, Any]:
        return {self._from_label(node): list(picked)}

    def _in_edge_weights(self, node: int) -> Sequence[Tensor] | None:
        return None if self.edge_weights is None else self.edge_weights(self._from_label(node))

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let the picked edges run their operations as they are, and no others."""
        self.edge_weights = None
        super().activate(arch)

    def logits(self) -> tuple[Logits, ...]:
        """Return a vector for every edge, zeros included; a node's edges compete for its places."""
        vectors = [v for part in self._processors() for v in logits_of(part).values()]
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
                vectors += [own, *edge.inner_logits()]
        return tuple(vectors)

    def derive(self, p: Probabilities, rank: Rank) -> dict[str, Value]:
        """Return, per node, the strongest edges and the best real operation on each.

        Where ``p`` has a vector over a node's sources, an edge's strength is multiplied by it.
        """
        arch = {k: v for part in self._processors() for k, v in derived(part, p, rank).items()}
        for node, sources in enumerate(self.sources):
            edges = [self.edge(node, source) for source in sources]
            strength = [rank(p[str(edge.label)], edge.none) for edge in edges]
            if (weights := p.get(self._from_label(node))) is not None:
                strength = [float(s * w) for s, w in zip(strength, weights, strict=True)]
            order = sorted(range(len(edges)), key=lambda at: -strength[at])  # stable: first wins
            kept = [edges[at] for at in sorted(order[: self.keep])]
            arch[self._from_label(node)] = tuple(edge.source for edge in kept)
            for edge in kept:
                real = list(edge.real)
                at = real[int(np.argmax(p[str(edge.label)][real]))]
                arch[str(edge.label)] = edge.options[at]
                arch |= derived(edge.layers()[at], p, rank)
        return arch

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"edge_weights": None}
