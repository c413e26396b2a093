"""Multi-head attention with elastic width and heads."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.errors import InvalidSpace
from raynas.nn.elastic import Arguments, Elastic, checked_whole, first, largest
from raynas.nn.expression import Expression, assignments, evaluate, leaves_of


class MultiheadAttention(Elastic, nn.MultiheadAttention):
    """``nn.MultiheadAttention`` whose width and number of heads may be values.

    Args:
        embed_dim: width of queries, keys and values alike.
        num_heads: that the width is shared among.
        dropout: probability on the attention weights.
        bias: whether the projections have one.
        batch_first: whether tensors are (batch, length, width) instead of (length, batch, width).

    Raises:
        InvalidSpace: a value is no positive whole number, or a width does not divide by its heads.
    """

    dimensions: ClassVar = {"embed_dim": "width", "num_heads": "width"}

    def __init__(
        self,
        embed_dim: int | Expression,
        num_heads: int | Expression,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
    ) -> None:
        arguments = {"embed_dim": embed_dim, "num_heads": num_heads}
        checked_whole("MultiheadAttention", arguments)
        for arch in assignments(leaves_of([embed_dim, num_heads])):
            width, heads = evaluate(embed_dim, arch), evaluate(num_heads, arch)
            if width % heads:
                raise InvalidSpace(
                    f"MultiheadAttention: embed_dim {width} does not divide by num_heads {heads}"
                )
        nn.MultiheadAttention.__init__(
            self, largest(embed_dim), 1, dropout, bias, batch_first=batch_first
        )
        self.label, self.arguments = "", arguments

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (output, weights) as ``nn.MultiheadAttention`` does."""
        now = self.now()
        part = self.sliced(now)
        swap = self.batch_first and query.dim() == 3
        if swap:
            # one tensor stays one: torch then projects it once, and rounds accordingly
            turned = {id(x): x.transpose(0, 1) for x in (query, key, value)}
            query, key, value = (turned[id(x)] for x in (query, key, value))
        out, weights = nn.functional.multi_head_attention_forward(
            query,
            key,
            value,
            now["embed_dim"],
            now["num_heads"],
            part["in_proj_weight"],
            part["in_proj_bias"],
            None,
            None,
            False,
            self.dropout,
            part["out_proj.weight"],
            part["out_proj.bias"],
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (out.transpose(0, 1) if swap else out), weights

    def frozen(self, arch: Any, memo: dict[int, Any]) -> nn.Module:
        """Return an ``nn.MultiheadAttention`` with its share of the weights."""
        arguments: dict[str, Value] = self.at(arch)
        plain = nn.MultiheadAttention(
            **arguments,
            dropout=self.dropout,
            bias=self.in_proj_bias is not None,
            batch_first=self.batch_first,
            device="meta",
        )
        wholes = dict(self.named_parameters())
        for name, tensor in self.sliced(arguments).items():
            if tensor is not None:
                whole = wholes[name]
                holder = plain.out_proj if name.startswith("out_proj.") else plain
                kept = (
                    copy.deepcopy(whole, memo)  # all of it: what was tied stays tied
                    if tensor is whole
                    else nn.Parameter(tensor.detach().clone(), requires_grad=whole.requires_grad)
                )
                setattr(holder, name.removeprefix("out_proj."), kept)
        return plain.train(self.training)

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return the first rows and columns of each projection."""
        width = arguments["embed_dim"]
        return {
            "in_proj_weight": self._three(self.in_proj_weight, width, width),
            "in_proj_bias": self._three(self.in_proj_bias, width),
            "out_proj.weight": first(self.out_proj.weight, width, width),
            "out_proj.bias": first(self.out_proj.bias, width),
        }

    def _three(self, whole: Tensor | None, *sizes: int) -> Tensor | None:
        """Cut the projections of queries, keys and values, which lie one above the other."""
        if whole is None or sizes[0] == self.embed_dim:
            return whole
        return torch.cat([part[tuple(map(slice, sizes))] for part in whole.chunk(3)])
