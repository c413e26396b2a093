"""A search space of one's own, as a notebook of cells."""

# %% [markdown]
# # A search space of one's own
#
# A network with four kinds of choices, on scikit-learn's digits (enlarged to 16x16): what its space
# is, what one of its architectures costs, how it becomes a plain network, and how it is written
# down. Then a template of slots, and a small search. All takes less than a minute on one core.

# %%
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import raynas
from raynas.nn.construct import construct
from raynas.nn.export import export
from raynas.nn.slot import Slot

torch.set_num_threads(1)

# %% [markdown]
# ## The network
#
# A choice is a module that stands where the network may differ. Equal labels decide together, and
# what has no label takes its module path. A `ValueChoice` stands for a number: `raynas.nn` has
# layers that take one.


# %%
def conv(kernel: int) -> nn.Module:
    """Convolution, BatchNorm, ReLU."""
    layer = nn.Conv2d(16, 16, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(16), nn.ReLU())


class Net(nn.Module):
    """Digits to logits."""

    def __init__(self) -> None:
        super().__init__()
        width = raynas.nn.ValueChoice([4, 8, 16], label="width")
        self.stem = nn.Sequential(
            raynas.nn.Conv2d(1, width, 3, padding=1, bias=False),
            raynas.nn.BatchNorm2d(width),
            nn.ReLU(),
            raynas.nn.Conv2d(width, 16, 1),
        )
        self.blocks = raynas.nn.Repeat(
            lambda _: raynas.nn.LayerChoice({"k1": conv(1), "k3": conv(3), "k5": conv(5)}),
            depth=(1, 3),
            label="depth",
        )
        self.inputs = raynas.nn.InputChoice(2, n_chosen=1, label="inputs")
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * 16, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, 10)."""
        early = self.stem(x)
        late = self.blocks(early)
        logits: Tensor = self.classifier(self.inputs([early, late]))
        return logits


# %% [markdown]
# ## The space that it spans
#
# The blocks' choices count only as far as the depth reaches.

# %%
supernet = Net().eval()
space = raynas.nn.space_of(supernet)
print(f"{space.size()} architectures of these decisions:")
for label, decision in space.decisions.items():
    print(f"  {label}: {list(decision.options)}")

# %%
rng = np.random.default_rng(0)
arch = space.sample(rng)
print("one of them:", arch.to_json())

# %% [markdown]
# ## From the supernet to one network
#
# `activate` makes the supernet run one architecture. `freeze` returns it as a plain module with
# the same weights: nothing of the other candidates is left.

# %%
x = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
raynas.nn.activate(supernet, arch)
net = raynas.nn.freeze(supernet, arch)
with torch.no_grad():
    print("largest difference of their outputs:", (net(x) - supernet(x)).abs().max().item())
print(net)

# %%
print(raynas.cost(net, input_shape=(1, 16, 16)))

# %% [markdown]
# ## Written down and read back
#
# By label, as a list in the order of the modules, or as a tree of their names; a constructor reads
# what an exporter wrote.

# %%
for exporter, constructor in (
    ("params", "params"),
    ("slots", "arch_desc"),
    ("recursive", "recursive_arch_desc"),
):
    text = json.dumps(export(supernet, arch, exporter))
    again = construct(supernet, [(constructor, {"arch_desc": text})])
    with torch.no_grad():
        same = torch.equal(again(x), net(x))
    print(f"{exporter}: {text}\n  the same network: {same}")

# %% [markdown]
# ## A template of slots
#
# The other way round: a backbone with places, and operators by name to put there. What is chosen
# is not part of the backbone.

# %%
template = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1),
    Slot(8, 16, stride=2, name="down"),
    Slot(16, name="last"),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(16, 10),
)
mixed = construct(template, [("mixed_op", {"candidates": ["MB3E3", "MB5E3", "SC3", "IDT"]})])
print(raynas.nn.space_of(mixed).size(), "architectures of", raynas.nn.space_of(mixed).labels)
direct = construct(template, [("arch_desc", {"arch_desc": [["MB3E3"], ["IDT"]]})])
print("filled at once:", raynas.cost(direct, input_shape=(1, 16, 16)))

# %% [markdown]
# ## A search
#
# A supernet is trained for a few epochs, then its architectures are compared with shared weights.
# Far more of both make a real search.

# %%
with tempfile.TemporaryDirectory() as folder:
    result = raynas.search(
        Net,
        algo="random",
        data="digits",
        trials=8,
        epochs=10,
        out=str(Path(folder) / "run"),
        ray=raynas.RayConfig(num_cpus=1, workers=1),
    )
    print(result.top(3)[["trial", "accuracy", "params", "macs"]])
    print("best:", result.best.arch.to_json())
    print(type(result.model()).__name__, "with inherited weights")
