"""Token ids with an embedding: does a sentence of ten words come from a list of good ones?"""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import raynas


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 16)
        mixers = {"mean": nn.Identity(), "layer": nn.Sequential(nn.Linear(16, 16), nn.ReLU())}
        self.mixer = raynas.nn.LayerChoice(mixers, label="mixer")
        self.head = nn.Linear(16, 2)

    def forward(self, ids):
        return self.head(self.mixer(self.embedding(ids)).mean(1))


ids = torch.randint(100, (1000, 10), generator=torch.Generator().manual_seed(0))
labels = (torch.where(ids < 30, 1, -1).sum(1) > -4).long()
data = TensorDataset(ids[:800], labels[:800]), TensorDataset(ids[800:], labels[800:])
result = raynas.search(Net, data=data, epochs=10)
print(result.top()[["choice.mixer", "accuracy", "params"]])
