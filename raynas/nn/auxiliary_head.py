"""The classifier beside a network of cells, whose loss is added while it trains."""

from __future__ import annotations

from torch import Tensor, nn

from raynas.nn.layout import laid_out

NARROW, WIDE = 128, 768  # channels


class AuxiliaryHead(nn.Sequential):
    """Pools a feature map to 2 x 2 and classifies it.

    Source: the authors' code of Liu et al., 2019, arXiv:1806.09055: a pool of 5 x 5 in steps of 3
    on maps of 8 x 8 (of small images), of 2 on maps of 7 x 7 (of large ones), a convolution of
    1 x 1 to 128 and one of 2 x 2 to 768 channels. Differs: maps of other sizes are pooled to 2 x 2
    in equal parts; for large images the second convolution has a BatchNorm too, which the authors
    call an omission.

    Args:
        channels: of the feature map.
        num_classes: length of the output.
        size: height and width of the feature map.
    """

    def __init__(self, channels: int, num_classes: int, size: int) -> None:
        strides = {8: 3, 7: 2}
        pool: nn.Module = nn.AdaptiveAvgPool2d(2)
        if size in strides:
            pool = nn.AvgPool2d(5, strides[size], count_include_pad=False)
        super().__init__(
            nn.ReLU(),
            pool,
            nn.Conv2d(channels, NARROW, 1, bias=False),
            nn.BatchNorm2d(NARROW),
            nn.ReLU(),
            nn.Conv2d(NARROW, WIDE, 2, bias=False),
            nn.BatchNorm2d(WIDE),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(WIDE, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (batch, num_classes)."""
        x = laid_out(x)
        for layer in self:
            x = layer(x)
        return x
