"""A searcher of one's own: a random step away from the best configuration so far."""

import numpy as np

from hpogen.plugins import searcher
from hpogen.trial import Proposal


@searcher("hill-climber")
class HillClimber:
    enqueues_default, ranks_only, multi_fidelity = True, False, False

    def __init__(self, space, budgets, seed, *, enqueue=(), step: float = 0.1):
        self.space, self.budget, self.step = space, budgets[-1], step
        self.enqueue, self.generator = list(enqueue), np.random.default_rng(seed)
        self.asked, self.best, self.best_score = [], space.default, float("inf")

    def ask(self):
        move = self.generator.normal(0, self.step, self.space.dimension)
        config = self.space.decode(np.clip(self.space.encode(self.best) + move, 0, 1))
        config = self.enqueue.pop(0) if self.enqueue else config
        self.asked.append(config)  # the k-th proposal is trial k
        return Proposal(config, self.budget)

    def tell(self, trial, score):
        if score < self.best_score:
            self.best, self.best_score = self.asked[trial], score
