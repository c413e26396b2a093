"""A training loop of Lightning, which trains each architecture; the best one keeps its weights."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import raynas

x = torch.randn(600, 8, generator=torch.Generator().manual_seed(0))
train, valid = TensorDataset(x[:400], x[:400, 0] > 0), TensorDataset(x[400:], x[400:, 0] > 0)


def net():
    hidden = raynas.nn.LayerChoice(
        {str(n): nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, 2)) for n in (4, 32)},
        label="hidden",
    )
    return nn.Sequential(hidden)


class Lit(lightning.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def training_step(self, batch):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1].long())

    def configure_optimizers(self):
        return torch.optim.Adam(self.net.parameters(), 0.01)


def by_lightning(net: nn.Module):
    """Return the accuracy, and weights to keep."""
    trainer = lightning.Trainer(
        max_epochs=5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(Lit(net), DataLoader(train, 32, shuffle=True))
    with torch.no_grad():
        right = net.eval()(valid.tensors[0]).argmax(1) == valid.tensors[1]
    return {"accuracy": right.float().mean()}, net.state_dict()


result = raynas.search(net, "grid", evaluator=by_lightning)
print(result.top()[["choice.hidden", "accuracy"]])
print(sum(weight.numel() for weight in result.model().parameters()), "weights kept")
