"""A training whose state hpogen keeps, with an audit, and told what to train on."""

import torch
from torch import nn

from hpogen.plugins import task


@task("kept", metrics=("val_loss",), audit=("error",), split=True)
def train(trial):
    torch.manual_seed(trial.seed)
    x = torch.randn(600, 10, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] * x[:, 1] > 0).long()
    parts = {"train": slice(0, 200), "val": slice(200, 300), "audit": slice(300, 500)}
    if trial.split == "retrain":  # on all of the data, judged by the test set
        parts |= {"train": slice(0, 500), "audit": slice(500, 600)}
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.config["lr"])
    trial.checkpoint.register(model=model, optimizer=optimizer)
    for _ in trial.epochs():
        for batch in torch.arange(len(x))[parts["train"]].split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(model(x[parts["val"]]), y[parts["val"]])
            wrong = (model(x[parts["audit"]]).argmax(1) != y[parts["audit"]]).double().mean()
        yield {"val_loss": loss}, {"error": wrong}
