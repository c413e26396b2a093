"""Several labels for each example: which of five signs stand in an image."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import raynas

rng = torch.Generator().manual_seed(0)
signs = torch.randn(5, 3, 3, generator=rng)
labels = (torch.rand(1000, 5, generator=rng) < 0.4).float()
images = 0.3 * torch.randn(1000, 1, 16, 16, generator=rng)
for image, present in zip(images, labels, strict=True):
    for sign in signs[present.bool()]:
        top, left = torch.randint(14, (2,), generator=rng)
        image[0, top : top + 3, left : left + 3] += sign


def net():
    convs = {f"k{k}": nn.Conv2d(1, 32, k, padding=k // 2) for k in (1, 3, 5)}
    pool = nn.Sequential(nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    return nn.Sequential(raynas.nn.LayerChoice(convs, label="conv"), pool, nn.Linear(32, 5))


data = [TensorDataset(images[part], labels[part]) for part in (slice(800), slice(800, None))]
result = raynas.search(net, data=data, task="multilabel", epochs=20)
print(result.top()[["choice.conv", "f1", "accuracy", "loss"]])
