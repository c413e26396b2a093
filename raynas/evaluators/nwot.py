"""NAS without training (Mellor et al., 2021, arXiv:2006.04647)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from raynas.core.evaluator import EVALUATORS
from raynas.core.nest import Nest, call, first, rows
from raynas.data.module import DataModule
from raynas.evaluators.sample import training_batch
from raynas.nn.random_state import own_random_state

_ATEN = torch.ops.aten
_RELU = {_ATEN.relu.default, _ATEN.relu_.default}
_BOUNDED = {_ATEN.hardtanh.default, _ATEN.hardtanh_.default}  # from 0: ReLU6


@EVALUATORS.register("nwot", aliases=("naswot",))
class NWOT:
    """Gives ``nwot``: how well an untrained network tells the images of one batch apart.

    The log-determinant of the matrix that counts, for every two images, on how many units of all
    ReLUs both are on or both are off. In training mode, as in the authors' code: BatchNorm takes
    the batch's own statistics. ReLU6 counts as ReLU; calls of a function are seen as modules are.

    Args:
        batch_size: images in the batch; the authors' 128.
    """

    metrics = ("nwot",)

    def __init__(self, *, batch_size: int = 128) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        self.batch_size = batch_size

    def measure(self, net: nn.Module, data: DataModule, seed: int) -> dict[str, float]:
        """Return the log-determinant; the network is left as it was.

        Raises:
            ValueError: the network has no ReLU, or two images have the same code.
        """
        inputs, _ = training_batch(data, self.batch_size, seed)
        twin = copy.deepcopy(net).train()
        with own_random_state(first(inputs).device, seed), torch.no_grad():
            kernel = agreement(twin, inputs)
        sign, size = torch.linalg.slogdet(kernel.cpu())
        if not (sign > 0 and size.isfinite()):
            raise ValueError(
                f"nwot: the activations of {rows(inputs)} examples are not independent (the "
                "determinant is 0); a smaller batch_size may help"
            )
        return {"nwot": float(size)}


def agreement(net: nn.Module, inputs: Nest) -> Tensor:
    """Return on how many ReLU units every two of N inputs agree, shape (N, N), in float64.

    Raises:
        ValueError: no ReLU is called.
    """
    codes = _Codes()
    with codes:
        call(net, inputs)
    if codes.kernel is None:
        raise ValueError("nwot needs a network with ReLUs, and this one calls none")
    return codes.kernel


class _Codes(TorchDispatchMode):
    """Sees every ReLU of a pass, whether a module or a function called it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernel: Tensor | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _RELU or (func in _BOUNDED and args[1:2] == (0.0,)):
            on = (args[0].flatten(1) > 0).double()
            agree = on @ on.T + (1 - on) @ (1 - on).T
            self.kernel = agree if self.kernel is None else self.kernel + agree
        return func(*args, **(kwargs or {}))
