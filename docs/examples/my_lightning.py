"""The same training as the trial of a study: what is new is the callback, and `yield from`."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hpogen.integrations.lightning import Report
from hpogen.plugins import task


class Net(lightning.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.lr)


x = torch.randn(600, 10, generator=torch.Generator().manual_seed(0))
data = TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())
train_data, val_data, test_data = torch.utils.data.random_split(
    data, [200, 200, 200], torch.Generator().manual_seed(0)
)
OPTIONS = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}


@task("net", metrics=("val_loss", "agn"), sums=("agn",), audit=("error",), resumable=True)
def train(trial):
    report = Report(trial, measures=["agn"], audit=DataLoader(test_data, 100))
    trainer = lightning.Trainer(**OPTIONS)
    train_loader, val_loader = DataLoader(train_data, 20, shuffle=True), DataLoader(val_data, 100)
    yield from report.fit(trainer, Net(trial.config["lr"]), train_loader, val_loader)
