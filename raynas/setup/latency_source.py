"""Where a search's latencies come from: a table that it looks up, measured once or read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.constraints import Constraint
from raynas.core.evaluator import EVALUATORS
from raynas.core.metrics import DEVICES, LATENCY
from raynas.evaluators.shared import Shared
from raynas.storage.run_folder import CONFIG, Folder, absolute

if TYPE_CHECKING:
    from raynas.costs.latency import LatencyTable
    from raynas.data.module import DataModule
    from raynas.setup.resolve import Space


class Latencies:
    """The latency table of one run, made or read when it is first needed.

    Args:
        source: ``cpu`` or ``gpu``, measured here operator by operator; or the path of a file.
        space: of the architectures.
        data: says what the inputs look like; None for a plain ArchSpace.
        folder: of the run.
        recorded: whether what the folder holds already counts.
        threads: of torch, while it is measured.
    """

    def __init__(
        self,
        source: str,
        space: Space,
        data: DataModule | None,
        folder: Folder,
        *,
        recorded: bool,
        threads: int,
    ) -> None:
        self.source, self._space, self._data = source, space, data
        self._folder, self._recorded, self._threads = folder, recorded, threads

    @property
    def file(self) -> str:
        """Name of the table in the run folder."""
        return f"latency_{self.source if self.source in DEVICES else 'table'}.json"

    @cached_property
    def table(self) -> LatencyTable:
        """The table.

        Raises:
            ValueError: it cannot be measured here, or does not fit the space.
            FileNotFoundError: there is no such file.
        """
        import torch

        from raynas.costs.latency import LatencyTable
        from raynas.costs.latency_files import from_json
        from raynas.costs.timing import latency_from

        model = self._space.model
        if self._recorded and self._folder.has(self.file):
            entries = from_json(self._folder.read(self.file), self._space.arch)
            return LatencyTable(entries, self._space.arch if model is None else model.supernet())
        if model is None or self._data is None:
            if self.source in DEVICES:
                raise ValueError(
                    f"latency {self.source!r}: an ArchSpace has no networks to measure; "
                    "pass the path of a table"
                )
            return LatencyTable.load(self.source, self._space.arch)
        example = torch.zeros(1, *self._data.input_shape)
        return latency_from(self.source, model.supernet(), example, threads=self._threads)

    def costs(self, arch: Arch) -> Mapping[str, float]:
        """Return the latency of an architecture as a metric."""
        return self.table.cost(arch).as_metrics()

    def record(self) -> None:
        """Write the table into the run folder, so that going on gives the same numbers."""
        from raynas.costs.latency_files import to_json

        if not (self._recorded and self._folder.has(self.file)):
            self._folder.write(self.file, to_json(self.table.entries))


def latencies(
    given: Any,
    evaluator: Any,
    space: Space,
    data: DataModule | None,
    config: SearchConfig,
    constraints: Iterable[Constraint],
    *,
    resume: bool,
) -> Latencies | None:
    """Return a run's latencies; None if it asks for none, or its evaluator gives them.

    Args:
        given: the user's own source; None takes that of the run to go on with, else a measurement
            on what workers compute on, where latencies are asked for.
        evaluator: the user's own.
        space: of the architectures.
        data: what the inputs look like.
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
    asked = LATENCY in config.objectives or any(one.metric == LATENCY for one in constraints)
    if source is None and asked and space.model is not None and not gives_latency(evaluator):
        source = "gpu" if config.ray.gpus_per_worker else "cpu"
    if source is None:
        return None
    threads = config.ray.cpus_per_worker
    return Latencies(source, space, data, folder, recorded=source == before, threads=threads)


def hardware_table(
    algo: ComponentSpec, space: Space, data: DataModule, folder: Folder, threads: int
) -> str | None:
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
    found = Latencies(hardware.target, space, data, folder, recorded=True, threads=threads)
    found.record()
    return to_json(found.table.entries)


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
    word = evaluator.get("type") if isinstance(evaluator, Mapping) else evaluator
    word = word[0] if isinstance(word, tuple | list) else word
    thing = EVALUATORS[word] if isinstance(word, str) else evaluator
    if thing is Shared or isinstance(thing, Shared):
        return False
    if hasattr(thing, "measure") or hasattr(thing, "train_epochs"):
        known = getattr(thing, "metrics", None)
        return known is None or LATENCY in known
    return True  # a function's, or a table's columns
