"""A data set of torch's own kind: processes read its samples while the network trains."""

import torch
from torch.utils.data import Dataset

from hpogen.plugins import dataset
from hpogen.training.data import Data, streamed


class Waves(Dataset):
    def __init__(self, rows, shifted):
        self.rows, self.shifted = rows, shifted
        self.targets = [row % 4 for row in rows]  # left out, all items are read once for them

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        own = torch.Generator().manual_seed(self.rows[i])  # a file would be read here
        start = 6 * torch.rand(1) if self.shifted else 0  # seeded by trial, epoch and row
        wave = torch.sin(torch.arange(64) * (1 + self.targets[i]) / 10 + start)
        return wave + torch.randn(64, generator=own)


@dataset("waves")
def waves(root, *, samples: int = 400, workers: int = 2):
    rows, others = range(samples), range(samples, 2 * samples)
    train = streamed(Waves(rows, True), Waves(rows, False), workers)  # evaluated without shifts
    return Data(train, streamed(Waves(others, False), workers=workers), "classes")
