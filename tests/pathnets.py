"""Rows of choices between linear layers, and their training on noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.nn import LayerChoice
from raynas.supernet.protocol import OneShot
from raynas.supernet.training import SupernetTraining

X = torch.randn(48, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(48) % 3
DATA = TensorData((TensorDataset(X, Y), TensorDataset(X, Y)))


def net(*sizes: int) -> nn.Sequential:
    """Return choices between so many linear layers each, and a head."""
    torch.manual_seed(0)
    layers = [LayerChoice([nn.Linear(6, 6) for _ in range(size)]) for size in sizes]
    return nn.Sequential(*layers, nn.Linear(6, 3)).double()


def training(model: nn.Module, algo: OneShot, **settings: Any) -> SupernetTraining:
    """Return the training of a model on the noise, its gradients as they are."""
    chosen = {"label_smoothing": 0.0, "clip": None, **settings}
    return SupernetTraining(model, algo, DATA, TrainSettings(**chosen), seed=0)
