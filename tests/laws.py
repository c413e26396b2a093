"""Laws that every module with choices keeps, in double precision."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from raynas.core.arch import Arch
from raynas.nn import activate, freeze, space_of
from raynas.nn.mutable import mutables, outermost


def keeps_the_laws(model: nn.Module, *inputs: Any, samples: int = 20, seed: int = 0) -> None:
    """Freezing equals activating, leaves nothing mutable, and descriptions come back as they were.

    Args:
        model: in double precision.
        inputs: of its forward pass.
        samples: random architectures to try.
        seed: of these.
    """
    space, rng = space_of(model.eval()), np.random.default_rng(seed)
    kept = [x.clone() for x in tree_leaves(inputs)]
    keys = list(model.state_dict())
    for _ in range(samples):
        arch = space.sample(rng)
        activate(model, arch)
        net = freeze(model, arch)
        assert not list(mutables(net))
        assert not any(part in key for key in net.state_dict() for part in ("candidates", "blocks"))
        for ours, theirs in zip(
            tree_leaves(net(*inputs)), tree_leaves(model(*inputs)), strict=True
        ):
            assert torch.equal(ours, theirs)
        decisions: dict[str, Any] = {}
        for mutable in outermost(model):
            decisions |= mutable.parsed(json.loads(json.dumps(mutable.describe(arch))))
        assert Arch(decisions) == arch
    assert list(model.state_dict()) == keys
    assert all(torch.equal(x, y) for x, y in zip(kept, tree_leaves(inputs), strict=True))
