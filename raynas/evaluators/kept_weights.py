"""Weights that a user's own evaluator returns beside its metrics: those of the best are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from raynas.core.arch import Arch
from raynas.core.evaluator import sorted_out
from raynas.core.goals import Goals
from raynas.core.locations import under
from raynas.core.objectives import MissingObjective
from raynas.core.temporary import temporary_folder
from raynas.storage.run_folder import Folder

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "weights"  # folder in that of a run
SUFFIX, DIGEST = ".safetensors", "digest"


def split_weights(returned: Any) -> tuple[Any, Mapping[str, Tensor] | None]:
    """Return metrics, and weights where an evaluator returns ``(metrics, state_dict)``."""
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping):
        return returned
    return returned, None


class WeightsKeeper(Protocol):
    """Takes weights that evaluators return, and keeps them, or some."""

    def offer(self, arch: Arch, metrics: Any, weights: Mapping[str, Tensor], *, seed: int) -> None:
        """Take the weights of an architecture.

        Args:
            arch: that they are of.
            metrics: as the evaluator returned them.
            weights: a state_dict.
            seed: of the evaluation.
        """
        ...


class KeptWeights:
    """Writes the weights of the best architecture that one process has evaluated.

    Args:
        out: folder of the run.
        goals: that say which is best.
    """

    def __init__(self, out: str, goals: Goals) -> None:
        self._folder, self._goals = Folder(under(out, WEIGHTS)), goals
        self._best: tuple[float, str] | None = None

    def offer(self, arch: Arch, metrics: Any, weights: Mapping[str, Tensor], *, seed: int) -> None:
        """Write weights if nothing better has been seen; what was written before is removed.

        Args:
            arch: that they are of.
            metrics: as the evaluator returned them.
            weights: a state_dict.
            seed: of the evaluation, the same of all in a search.
        """
        score = self._score(metrics)
        if score is None or (self._best is not None and score <= self._best[0]):
            return
        _write(self._folder, arch.key, weights)
        if self._best is not None and self._best[1] != arch.key:
            self._folder.remove(f"{self._best[1]}{SUFFIX}")
        self._best = score, arch.key

    def _score(self, metrics: Any) -> float | None:
        """Return the merged score; None of what is not completed."""
        names = tuple(objective.metric for objective in self._goals.objectives)
        measured = self._goals.checked(sorted_out(metrics, names))
        try:
            allowed = measured.error is None and self._goals.allow(measured.metrics)
            return self._goals.merged(measured.metrics) if allowed else None
        except MissingObjective:
            return None


def _write(folder: Folder, key: str, weights: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    with temporary_folder() as place:
        file = place / f"{key}{SUFFIX}"
        # copied: names may share memory, which the format refuses
        tensors = {name: t.detach().cpu().clone().contiguous() for name, t in weights.items()}
        save_file(tensors, file, {DIGEST: _digest(tensors)})
        folder.put_file(file, file.name)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of names, types, shapes and values."""
    import torch

    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()[:16]


def keep_only(out: str, archs: Iterable[Arch]) -> None:
    """Remove the weights of all architectures but some from a run's folder."""
    folder = Folder(under(out, WEIGHTS))
    kept = {f"{arch.key}{SUFFIX}" for arch in archs}
    for name in folder.names():
        if name not in kept:
            folder.remove(name)


def kept_weights(out: str, arch: Arch) -> dict[str, Tensor] | None:
    """Return the weights that were kept of an architecture; None if there are none.

    Raises:
        ValueError: their file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    from raynas.storage.local_copies import local_file

    name = f"{arch.key}{SUFFIX}"
    if not Folder(under(out, WEIGHTS)).has(name):
        return None
    file = local_file(under(out, WEIGHTS, name))
    try:
        with safe_open(file, framework="pt") as opened:
            said = (opened.metadata() or {}).get(DIGEST)  # releases before wrote none
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if said is not None and said != _digest(tensors):
        raise ValueError(f"{file} is damaged: it is not as it was written; restore it from a copy")
    return tensors
