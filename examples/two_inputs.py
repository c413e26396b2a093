"""Two inputs by keyword: an image, and a row of a table that says which way it is turned."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import raynas


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        convs = {f"k{k}": nn.Conv2d(1, 16, k, padding=k // 2) for k in (1, 3, 5)}
        self.conv = raynas.nn.LayerChoice(convs, label="conv")
        self.head = nn.Linear(16 * 16 + 4, 10)

    def forward(self, image, turn):
        features = nn.functional.max_pool2d(self.conv(image).relu(), 2).flatten(1)
        return self.head(torch.cat([features, turn], 1))


images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
rows = [
    {"image": images[i].rot90(i % 4, (1, 2)), "turn": torch.eye(4)[i % 4], "label": int(label)}
    for i, label in enumerate(load_digits().target)
]
result = raynas.search(Net, data=(rows[:1200], rows[1200:]), epochs=20, trials=3)
print(result.top()[["choice.conv", "accuracy", "macs"]])
