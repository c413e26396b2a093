"""Gradients in the layout of what they are gradients of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raynas.nn.layout import laid_out


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_gradient_takes_the_layout(layout: torch.memory_format) -> None:
    plain, laid = (
        torch.randn(2, 4, 3, 3).contiguous(memory_format=layout).requires_grad_() for _ in range(2)
    )
    found: list[Tensor] = []
    assert laid_out(laid) is laid
    for x in plain, laid:
        x.register_hook(found.append)  # behind ours, where there is one
        other = torch.randn(2, 4, 3, 3).contiguous(memory_format=layout)
        (torch.cat([x, x, other], 1)[:, :6]).mean((2, 3)).square().sum().backward()
    torch.cat([plain, laid], 1).sum().backward()
    assert [g.is_contiguous(memory_format=layout) for g in found[1:2]] == [True]
    assert found[3].is_contiguous(memory_format=layout)
    assert not found[2].is_contiguous(memory_format=layout)


def test_what_needs_no_gradient_or_is_no_image_is_left_alone() -> None:
    for x in torch.randn(2, 4, 3, 3), torch.randn(2, 4, requires_grad=True):
        assert laid_out(x) is x
        assert not x._backward_hooks
