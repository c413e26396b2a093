"""The next character of a text: heads, activation and depth of a small transformer."""

import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from torch import nn
from torch.utils.data import TensorDataset

import raynas

text = "".join(load().DESCR for load in (load_breast_cancer, load_diabetes, load_iris, load_wine))
letters = sorted(set(text))
ids = torch.tensor([letters.index(letter) for letter in text]).unfold(0, 33, 8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.letters, self.places = nn.Embedding(len(letters), 32), nn.Embedding(32, 32)
        layers = {n: nn.TransformerEncoderLayer(32, n, 64, 0.0, batch_first=True) for n in (1, 4)}
        self.layer = raynas.nn.LayerChoice({f"{n} heads": layers[n] for n in layers}, label="layer")
        self.head = nn.Linear(32, len(letters))

    def forward(self, ids):
        mask = nn.Transformer.generate_square_subsequent_mask(32, device=ids.device)
        return self.head(self.layer(self.letters(ids) + self.places.weight, src_mask=mask))


data = [TensorDataset(part[:, :-1], part[:, 1:]) for part in (ids[:-200], ids[-200:])]
recipe = {"optimizer": "adamw", "lr": 0.005}
result = raynas.search(Net, data=data, task="language_modeling", epochs=8, supernet=recipe)
print(result.top()[["choice.layer", "perplexity", "bits_per_token"]])
