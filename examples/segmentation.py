"""A class for every pixel: discs and squares, and a small U-Net with choices."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import raynas

rng, axis = torch.Generator().manual_seed(0), torch.arange(32.0)
middle = torch.randint(8, 24, (400, 2, 1, 1), generator=rng)
down, across = (axis[:, None] - middle[:, 0]).abs(), (axis - middle[:, 1]).abs()
disc = torch.arange(400)[:, None, None] % 2 == 0
masks = torch.where(disc, torch.hypot(down, across) < 7, 2 * (torch.maximum(down, across) < 7))
images = (masks[:, None] > 0) + 0.5 * torch.randn(400, 1, 32, 32, generator=rng)


def block(channels):
    convs = {f"k{k}": nn.Conv2d(channels, 8, k, padding=k // 2) for k in (1, 3, 5)}
    return nn.Sequential(raynas.nn.LayerChoice(convs), nn.BatchNorm2d(8), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse, self.head = block(1), block(8), nn.Conv2d(16, 3, 1)

    def forward(self, x):
        fine = self.fine(x)
        coarse = self.coarse(fine[:, :, ::4, ::4]).repeat_interleave(4, 2).repeat_interleave(4, 3)
        return self.head(torch.cat([fine, coarse], 1))


data = [TensorDataset(images[part], masks[part]) for part in (slice(300), slice(300, None))]
result = raynas.search(UNet, data=data, task="segmentation", epochs=10)
print(result.top(5)[["choice.fine.0", "choice.coarse.0", "mean_iou", "macs"]])
