"""Where a search's latencies come from: a table that it looks up, measured once or read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.constraints import Constraint
from raynas.core.locations import is_uri
from raynas.core.metrics import DEVICES, LATENCY
from raynas.evaluators.protocols import declaration
from raynas.evaluators.shared import Shared
from raynas.setup.objects import named_evaluator
from raynas.setup.problem import Space
from raynas.storage.json_files import read_text, write_text
from raynas.storage.local_copies import local_file
from raynas.storage.run_folder import CONFIG, Folder, absolute

if TYPE_CHECKING:
    from raynas.costs.latency import LatencyTable
    from raynas.costs.measured_latency import MeasuredLatency


class LatencySource:
    """The latency table of one run, made or read when it is first needed.

    Args:
        source: ``cpu`` or ``gpu``, measured here operator by operator; or the path of a file.
        space: of the architectures.
        folder: of the run.
        recorded: whether what the folder holds already counts.
        threads: of torch, while it is measured.
    """

    def __init__(
        self,
        source: str,
        space: Space,
        folder: Folder,
        *,
        recorded: bool,
        threads: int,
    ) -> None:
        self.source, self._space = source, space
        self._folder, self._recorded, self._threads = folder, recorded, threads

    @property
    def file(self) -> str:
        """Name of the table in the run folder."""
        return f"latency_{self.source if self.source in DEVICES else 'table'}.json"

    @property
    def looked_up(self) -> bool:
        """Whether there is a table, so that an architecture's latency is known beforehand.

        There is none of a converted model that is measured here: each network is, with its score.
        """
        from raynas.nn.conversion.elastic_space import ElasticSpace

        return not (self.source in DEVICES and isinstance(self._space.model_space, ElasticSpace))

    @cached_property
    def tells(self) -> LatencyTable | MeasuredLatency:
        """What tells latencies: the table, or what measures networks.

        Raises:
            ValueError: latencies cannot be measured here, or a table does not fit the space.
            FileNotFoundError: there is no such file.
        """
        if self.looked_up:
            return self.table
        from raynas.costs.measured_latency import MeasuredLatency
        from raynas.costs.timing import check_device

        check_device(self.source)
        model_space = self._space.model_space
        assert model_space is not None
        device = "cuda" if self.source == "gpu" else "cpu"
        return MeasuredLatency(model_space, device, self._threads)

    @cached_property
    def table(self) -> LatencyTable:
        """The table.

        Raises:
            ValueError: it cannot be measured here, or does not fit the space.
            FileNotFoundError: there is no such file.
        """
        from raynas.costs.latency import LatencyTable
        from raynas.costs.latency_files import from_json
        from raynas.costs.timing import latency_from

        arch_space, model_space = self._space.arch_space, self._space.model_space
        if self._recorded and self._folder.has(self.file):
            entries = from_json(read_text(self._folder, self.file), arch_space)
            return LatencyTable(
                entries, arch_space if model_space is None else model_space.supernet()
            )
        if model_space is None:
            if self.source in DEVICES:
                raise ValueError(
                    f"latency {self.source!r}: an ArchSpace has no networks to measure; "
                    "pass the path of a table"
                )
            return LatencyTable.load(_file(self.source), arch_space)
        supernet, example = model_space.supernet(), model_space.example_input()
        return latency_from(_file(self.source), supernet, example, threads=self._threads)

    def costs(self, arch: Arch) -> Mapping[str, float]:
        """Return the latency of an architecture as a metric."""
        return self.tells.cost(arch).as_metrics()

    def record(self, folder: Folder) -> None:
        """Write a table into the run folder, so that going on gives the same numbers."""
        from raynas.costs.latency_files import to_json

        if self.looked_up and not (self._recorded and folder.has(self.file)):
            write_text(folder, self.file, to_json(self.table.entries))


def latency_source(
    given: Any,
    evaluator: Any,
    space: Space,
    config: SearchConfig,
    constraints: Iterable[Constraint],
    *,
    resume: bool,
) -> LatencySource | None:
    """Return a run's latencies; None if it asks for none, or its evaluator gives them.

    Args:
        given: the user's own source; None takes that of the run to go on with, else a measurement
            on what workers compute on, where latencies are asked for.
        evaluator: the user's own.
        space: of the architectures.
        config: objectives, folder and Ray.
        constraints: of the search.
        resume: whether the run goes on.

    Raises:
        TypeError: ``given`` is neither a device nor a path.
        ValueError: it is a target that only a table can tell of.
    """
    folder = Folder(config.out)
    before = folder.read_config().latency if resume and folder.has(CONFIG) else None
    source = _checked(given) or before
    asked = LATENCY in config.objectives or any(c.metric == LATENCY for c in constraints)
    if source is None and asked and space.model_space is not None and not gives_latency(evaluator):
        source = "gpu" if config.ray.gpus_per_worker else "cpu"
    if source is None:
        return None
    threads = config.ray.cpus_per_worker
    return LatencySource(source, space, folder, recorded=source == before, threads=threads)


def hardware_table(algo: ComponentSpec, space: Space, folder: Folder, threads: int) -> str | None:
    """Return the table of an algorithm whose loss has a latency measured here, as JSON.

    It is measured once a run and kept in the folder, so that all ranks, and a run that goes on, see
    the same. None where the loss has no such latency, or only the training's workers have a GPU.
    """
    import torch

    from raynas.costs.latency_files import to_json
    from raynas.gradient.hardware import checked_hardware

    hardware = checked_hardware(algo.options.get("hardware"))
    if hardware is None or hardware.table is not None or hardware.target not in DEVICES:
        return None
    if hardware.target == "gpu" and not torch.cuda.is_available():
        return None
    latencies = LatencySource(hardware.target, space, folder, recorded=True, threads=threads)
    latencies.record(folder)
    return to_json(latencies.table.entries)


def _file(source: str) -> str:
    """Return a table's path, or that of a copy of one in an object store."""
    return str(local_file(source)) if is_uri(source) else source


def _checked(given: Any) -> str | None:
    if given is None or given in DEVICES:
        return None if given is None else str(given)
    if not isinstance(given, str | Path):
        raise TypeError(
            "latency: expected 'cpu' or 'gpu', to be measured here, or the path of a table "
            f"(LatencyTable.save writes one), got {given!r}"
        )
    if given == "mobile":
        raise ValueError("latency 'mobile' cannot be measured here: pass the path of its table")
    return absolute(str(given))


def gives_latency(evaluator: Any) -> bool:
    """Return whether an evaluator, in any form that a search takes, may measure it itself."""
    evaluator = named_evaluator(evaluator)
    if evaluator is Shared or isinstance(evaluator, Shared):
        return False
    declared = declaration(evaluator)
    if declared.kind in ("network", "training"):
        says = declared.metrics is not None or declared.metrics_of_task
        return not says or LATENCY in (declared.metrics or ())
    return True  # a function's, or a table's columns
