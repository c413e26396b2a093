"""A cell whose operations each choose their input, whatever the others of their node read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raynas.core.decision import Choice, Decision
from raynas.nn.base_cell import BaseCell, Sources
from raynas.nn.edge import Candidates, Edge
from raynas.nn.mutable import decide_together


class SlotCell(BaseCell):
    """A cell whose nodes may read one source several times (NASNet, arXiv:1707.07012).

    The j-th operation of node i is a slot: it decides ``<label>/n<i>/from<j>``, its source, and
    ``<label>/n<i>/op<j>``. ``Cell(..., inputs="any")`` makes one. A differentiable search cannot
    relax it; sample it.

    Differs: with ``loose_end`` and ``unread``, states that others read count as zeros in the
    output, so that its shape is the same under all architectures.

    Args: as ``Cell``'s, without ``inputs``.
    """

    root_label = "Cell"  # a run folder may hold the label of a model that is one such cell

    @property
    def slots_per_node(self) -> int:
        """One for each operation of a node."""
        return self.keep

    def _add_edges(self, candidates: Candidates, node: int, slot: int) -> list[Edge]:
        edges = super()._add_edges(candidates, node, slot)
        for edge in edges[1:]:  # the choices inside an operation do not depend on its source
            for layer, original in zip(edge.layers(), edges[0].layers(), strict=False):
                decide_together(layer, original)
        return edges

    def _edge_name(self, node: int, slot: int, source: str) -> str:
        return f"n{node}_{slot}_{source}"

    def _edge_labels(self, node: int, slot: int, source: str) -> tuple[str, str]:
        return f"{self.label}/n{node}/from{slot}", f"{self.label}/n{node}/op{slot}"

    def _slot_decisions(self, sources: Sources, edges: Sequence[Edge]) -> tuple[Decision, ...]:
        return Choice(edges[0].from_label, sources), self._operation(edges)

    def _source_decisions(self, node: int, picked: Sequence[str]) -> dict[str, Any]:
        return {f"{self.label}/n{node}/from{slot}": source for slot, source in enumerate(picked)}
