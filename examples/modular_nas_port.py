"""ModularNAS' document as Python: a template of slots, its constructor, optimizer, description."""

from torch import nn

import raynas
from raynas.nn import Slot
from raynas.nn.export import export
from raynas.registry.construct import build


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Slot(_chn_in=1, _chn_out=8, _stride=1)
        self.blocks = nn.Sequential(Slot(_chn_in=8, _chn_out=16, _stride=2), Slot(_chn_in=16))
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


recipe = {"epochs": 8, "lr": 0.1, "batch_size": 32}
primitives = ["MB3E3", "MB5E3", "MB3E6"]
mixed = build("DefaultMixedOpConstructor", primitives=primitives, mixed_op="BinGate")
result = raynas.search(Net, "BinaryGateOptim", data="digits", construct=[mixed], options=recipe)
print(result.top(3)[["accuracy", "params", "macs"]])
description = export(mixed(Net()), result.best.arch, "DefaultSlotTraversalExporter")
net = build("DefaultSlotArchDescConstructor", arch_desc=description)(Net())
print(description, sum(weight.numel() for weight in net.parameters()))
