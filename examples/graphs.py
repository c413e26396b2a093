"""SGAS on graphs: cells of graph convolutions that tell shapes of point clouds apart."""

import torch
from torch.utils.data import TensorDataset

import raynas

generator = torch.Generator().manual_seed(0)
points = torch.randn(300, 3, 24, generator=generator)  # clouds of 24 points in space
labels = torch.arange(300) % 3
points[labels == 0] = torch.nn.functional.normalize(points[labels == 0], dim=1)  # on a sphere
points[labels == 1] = points[labels == 1] / points[labels == 1].abs().amax(
    1, keepdim=True
)  # a cube
points[labels == 2, 2] = 0  # in a plane
clouds = points + 0.05 * torch.randn(points.shape, generator=generator)
train, valid = TensorDataset(clouds[:200], labels[:200]), TensorDataset(clouds[200:], labels[200:])

result = raynas.search(
    "gcn",
    "sgas",
    data=(train, valid),
    epochs=6,
    options={"first_decision": 1, "decide_every": 1, "batch_size": 40},
    space_options={"channels": 8, "cells": 2, "steps": 2, "embedding": 32},
)
print(result.top(3)[["accuracy", "loss", "params"]])
scores = [column for column in result.history if column.startswith("score.")]
print(result.history[scores].round(2))  # of every edge, until it is decided
