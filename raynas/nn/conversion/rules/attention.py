"""Products of activations: what is summed over belongs together, which makes heads of attention."""

from __future__ import annotations

import torch
from torch import Tensor

from raynas.nn.conversion.labels import NONE, compact, differs_along
from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.rules.pointwise import tie_elementwise
from raynas.nn.conversion.rules.registry import or_none, rule, untied
from raynas.nn.conversion.trace import Trace


@rule("baddbmm")
def added_product(trace: Trace, op: Operation) -> None:
    """A product of activations, and what is added to it."""
    of_activations(trace, op.args[1], op.args[2], op.out)
    tie_elementwise(trace, [op.args[0], op.out], op.out)


def of_activations(trace: Trace, a: Tensor, b: Tensor, out: Tensor) -> None:
    """Tie what is summed over; what is left of both belongs together too."""
    la, lb = (or_none(trace, x) for x in (a, b))
    if a.dim() < 2 or b.dim() < 2:
        trace.freeze(la, "a product of vectors")
        trace.freeze(lb, "a product of vectors")
        return
    if differs_along(la, -1) or differs_along(lb, -2):  # summed over channels: these are tied
        trace.scored[trace.scope] = _channels_kept(lb)
        head = met_together(trace, la, lb.mT)
        trace.attended.append(torch.unique(compact(head)))
        labels = head.expand(out.shape)
        trace.put(out, labels)
        trace.multiply(labels, untied(a.shape[-1]))
        return
    if _hides_later(a != 0):  # what is weighted by a causal softmax are values
        _cache(trace, trace.scored.get(trace.scope), _channels_kept(lb))
    left = la.amax(-1, keepdim=True).expand(out.shape)
    right = lb.amax(-2, keepdim=True).expand(out.shape)
    trace.labels.tie(left, right)
    labels = torch.where(right == NONE, left, right)
    trace.put(out, labels)
    trace.multiply(labels, untied(a.shape[-1]))


def met_together(trace: Trace, a: Tensor, b: Tensor) -> Tensor:
    """Tie, in every matrix of a batch, all channels of both; return their labels (..., 1, 1)."""
    few_a, few_b = compact(a), compact(b)
    batch = torch.broadcast_shapes(few_a.shape[:-2], few_b.shape[:-2])
    flat = [x.expand(*batch, *x.shape[-2:]).flatten(-2) for x in (few_a, few_b)]
    joined = torch.cat(flat, -1)
    first = joined.max(-1, keepdim=True).values
    trace.labels.tie(joined, first)
    whole = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return first.unsqueeze(-1).expand(*whole, 1, 1)


@rule("scaled_dot_product_attention")
def attention(trace: Trace, op: Operation) -> None:
    """Heads of queries, keys and values belong together; groups of heads share keys and values."""
    query, key, value = (op.argument(at, n) for at, n in enumerate(("query", "key", "value")))
    lq, lk, lv = (or_none(trace, x) for x in (query, key, value))
    if op.argument(5, "is_causal", False) or _hides_later(_visible(op.argument(3, "attn_mask"))):
        _cache(trace, _channels_kept(lk), _channels_kept(lv))
    if lk.dim() > 2 and lk.shape[-3] != lq.shape[-3]:
        times = lq.shape[-3] // lk.shape[-3]
        lk, lv = (x.repeat_interleave(times, -3) for x in (lk, lv))
    head = met_together(trace, lq, lk)
    trace.attended.append(torch.unique(compact(head)))
    trace.labels.tie(head.expand(lv.shape), lv)
    mask = trace.of(op.argument(3, "attn_mask"))
    if mask is not None:
        batch = torch.broadcast_shapes(mask.shape[:-2], head.shape[:-2])
        trace.labels.tie(mask.expand(*batch, *mask.shape[-2:]), head.expand(*batch, 1, 1))
    labels = head.expand(op.out.shape)
    trace.put(op.out, labels)
    scores = head.expand(*query.shape[:-1], key.shape[-2])
    trace.multiply(scores, untied(query.shape[-1]))
    trace.multiply(labels, untied(key.shape[-2]))


def _visible(mask: Tensor | None) -> Tensor | None:
    """Return what a mask lets through."""
    if mask is None or mask.dtype == torch.bool:
        return mask
    return mask > torch.finfo(mask.dtype).min / 2


def _hides_later(visible: Tensor | None) -> bool:
    """Return whether each of several places sees itself, and none behind it."""
    if visible is None or visible.dim() < 2 or not visible.shape[-1] == visible.shape[-2] > 1:
        return False
    sees_itself = visible.diagonal(dim1=-2, dim2=-1).all()
    return bool(sees_itself) and not bool(visible.triu(1).any())


def _cache(trace: Trace, keys: tuple[Tensor, Tensor] | None, values: tuple[Tensor, Tensor]) -> None:
    """Note what a token leaves behind for those that follow it."""
    if keys is not None:
        trace.cached += [(trace.scope, keys), (trace.scope, values)]


def _channels_kept(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct channels of keys or values: what one token leaves in a cache."""
    distinct = torch.unique(compact(labels))
    return distinct, torch.ones_like(distinct)
