"""The same training as the trial of a study: what is new is the callback, and `yield from`."""

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from hpogen.integrations.transformers import Report
from hpogen.plugins import task

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
OPTIONS = {"per_device_train_batch_size": 20, "use_cpu": True, "report_to": "none"}


def make_model():
    return BertForSequenceClassification(BertConfig(**SIZES, intermediate_size=32))


ids = torch.randint(50, (600, 8), generator=torch.Generator().manual_seed(0))
labels = (ids[:, 0] > ids[:, 1]).long()
rows = [{"input_ids": i, "labels": label} for i, label in zip(ids, labels, strict=True)]


@task("bert", metrics=("val_loss", "agn"), sums=("agn",), audit=("error",), resumable=True)
def train(trial):
    test = [{"input_ids": ids[400:], "labels": labels[400:]}]  # one batch
    report = Report(trial, measures=["agn"], audit=test)
    arguments = TrainingArguments(learning_rate=trial.config["lr"], **OPTIONS)
    trainer = Trainer(make_model(), arguments, train_dataset=rows[:200], eval_dataset=rows[200:400])
    yield from report.train(trainer)
