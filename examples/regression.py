"""A number for each row of a table: an MLP for scikit-learn's diabetes data."""

import torch
from sklearn.datasets import load_diabetes
from torch.utils.data import TensorDataset

import raynas

x, y = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
x, y = 21 * x, (y - 152) / 77  # about unit variance
parts = torch.randperm(442, generator=torch.Generator().manual_seed(0)).split([262, 90, 90])
result = raynas.search(
    "mlp",
    data=[TensorDataset(x[part], y[part]) for part in parts],
    task="regression",
    epochs=60,
    supernet={"optimizer": "adamw", "lr": 0.003, "batch_size": 64},
    trials=30,
)
print(result.rescore(5)[["valid_r2", "test_r2", "test_mae", "params"]])
