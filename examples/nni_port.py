"""A script of NNI 1.9 as it was, but for its imports: a one-shot trainer, its file, the network."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from raynas.nni import DartsTrainer, LayerChoice, apply_fixed_architecture

images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
data = TensorDataset(images, torch.tensor(load_digits().target))
train, valid = (TensorDataset(*data[part]) for part in (slice(1200), slice(1200, None)))


def net():
    convs = [nn.Conv2d(1, 16, k, padding=k // 2) for k in (1, 3, 5)]
    return nn.Sequential(
        LayerChoice(convs, key="conv"), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10)
    )


def accuracy(output, target):
    return {"acc1": (output.argmax(1) == target).float().mean().item()}


model = net()
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=3e-4)
trainer = DartsTrainer(model, nn.CrossEntropyLoss(), accuracy, optimizer, 4, train, valid)
trainer.train()
trainer.export("chosen.json")
apply_fixed_architecture(fixed := net(), "chosen.json")
print(trainer.result.top(1)[["choice.conv", "acc1"]], fixed[0], sep="\n")
