"""Where modules of earlier releases stand now: importing an old name says the new one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every import of raynas reads this file
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# One line per module that users may have imported; what was split has all its new places.
MOVED = {
    "raynas.analysis": "raynas.results.analysis",
    "raynas.assemble": "raynas.setup.resolve",
    "raynas.bounds": "raynas.setup.bounds",
    "raynas.catalogue": "raynas.setup.registries",
    "raynas.cluster.crew": "raynas.cluster.training_group",
    "raynas.cluster.desk": "raynas.cluster.work_queue",
    "raynas.cluster.evaluators": "raynas.evaluators.shared and raynas.evaluators.functions",
    "raynas.cluster.gate": "raynas.cluster.start_barrier",
    "raynas.cluster.nested": "raynas.cluster.distributed_trials",
    "raynas.cluster.networks": "raynas.evaluators.networks",
    "raynas.cluster.timed": "raynas.evaluators.with_latency",
    "raynas.cluster.watch": "raynas.cluster.timeout",
    "raynas.core.external": "raynas.core.optuna_sampler",
    "raynas.core.known": "raynas.core.result_cache",
    "raynas.core.listed": "raynas.core.fixed_list",
    "raynas.core.visited": "raynas.core.deduplicator",
    "raynas.costing": "raynas.setup.costing",
    "raynas.costs.cost": "raynas.costs.network_cost",
    "raynas.costs.extreme": "raynas.costs.cost_bounds",
    "raynas.costs.table": "raynas.costs.cost_table",
    "raynas.folder": "raynas.storage.run_folder",
    "raynas.gradient.likeliest": "raynas.gradient.top_architectures",
    "raynas.latencies": "raynas.setup.latency_source",
    "raynas.measuring": "raynas.setup.evaluation",
    "raynas.method": "raynas.setup.strategy",
    "raynas.nn.calibration": "raynas.supernet.calibration",
    "raynas.nn.dilated": "raynas.supernet.dilated",
    "raynas.nn.edge_layers": "raynas.nn.edge",
    "raynas.nn.export.registry": "raynas.nn.export.exporters",
    "raynas.nn.finite": "raynas.supernet.nonfinite",
    "raynas.nn.inherit": "raynas.supernet.inherit",
    "raynas.nn.oneshot": "raynas.supernet.protocol",
    "raynas.nn.operators.registry": "raynas.nn.operators.operator_registry",
    "raynas.nn.passes": "raynas.supernet.precision",
    "raynas.nn.plain_training": "raynas.supernet.network_training",
    "raynas.nn.prefix": "raynas.supernet.prefix_cache",
    "raynas.nn.program_files": "raynas.results.program_files",
    "raynas.nn.ranks": "raynas.supernet.distributed",
    "raynas.nn.scoring": "raynas.supernet.scoring",
    "raynas.nn.stages": "raynas.supernet.stages",
    "raynas.nn.sync_norm": "raynas.supernet.sync_batch_norm",
    "raynas.nn.training": "raynas.supernet.training",
    "raynas.nn.weights": "raynas.supernet.checkpoint",
    "raynas.parts": "raynas.storage.parquet and raynas.storage.part_writer",
    "raynas.plans": "raynas.setup.evaluation and raynas.setup.supernets",
    "raynas.proxies": "raynas.setup.proxies",
    "raynas.rebuilt": "raynas.results.models",
    "raynas.report.progress": "raynas.report.console",
    "raynas.report.table": "raynas.report.trial_tables",
    "raynas.result": "raynas.results.result",
    "raynas.store": "raynas.storage.tables and raynas.storage.table_writers",
    "raynas.verification": "raynas.results.verification",
}


class MovedModules:
    """The last finder of ``sys.meta_path``: asked only for modules that nobody else finds."""

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG004, the protocol's
        target: ModuleType | None = None,  # noqa: ARG004
    ) -> ModuleSpec | None:
        """Return None, as for any module that does not exist, unless it has moved.

        Raises:
            ModuleNotFoundError: the module has moved; the message says where to.
        """
        if name in MOVED:
            # without the error's ``name``: ``from package import name`` hides errors that have it
            raise ModuleNotFoundError(f"{name} is {MOVED[name]} now")
        return None


def install() -> None:
    """Let imports of modules that have moved fail with their new names."""
    if MovedModules not in sys.meta_path:
        sys.meta_path.append(MovedModules)
