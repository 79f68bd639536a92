"""A training with Hugging Face's Trainer, before there is a study."""

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
OPTIONS = {"per_device_train_batch_size": 20, "use_cpu": True, "report_to": "none"}


def make_model():
    return BertForSequenceClassification(BertConfig(**SIZES, intermediate_size=32))


ids = torch.randint(50, (600, 8), generator=torch.Generator().manual_seed(0))
labels = (ids[:, 0] > ids[:, 1]).long()
rows = [{"input_ids": i, "labels": label} for i, label in zip(ids, labels, strict=True)]

arguments = TrainingArguments("runs/bert", learning_rate=0.003, num_train_epochs=2, **OPTIONS)
trainer = Trainer(make_model(), arguments, train_dataset=rows[:200], eval_dataset=rows[200:400])
trainer.train()
