"""A line on each key that a study's YAML can have, by its dotted path; `text.py` writes it there.

A test holds the paths against the forms, so that no key is without one and none is left over.
"""

from __future__ import annotations

from collections.abc import Mapping

STUDY = {
    "name": "of the study, and of its folder, runs/NAME",
    "seed": "of all that is drawn at random: proposals, trainings",
    "task": "what each trial trains",
    "search_space": "what is searched: float, int, choice, or a constant",
    "searcher": "who proposes configurations",
    "searcher.name": "hpogen list searchers",
    "objective": "the score that the searcher is told; lower is better",
    "objective.preset": "val, train, agn+val (alpha · scale(agn) + val_loss) or agn+train",
    "objective.alpha": "the weight of AGN, the accumulated gradient norm",
    "objective.scale": "of AGN: raw, per_epoch, log, standard or rank",
    "objective.terms": "instead of a preset: [{metric: val_loss, weight: 1}, …]",
    "objective.standard_after": "outcomes that freeze a standard scale",
    "selection": "which trial is the answer: score, val_loss, one_se_margin, …",
    "stop": "when to stop asking: at least one of the two",
    "stop.epochs": "charged, all trials together",
    "stop.trials": "asked for",
    "baselines": "what to compare with: {NAME: {lr: 0.1}}; null: the defaults",
    "limits": "when a trial, or the study, is given up",
    "limits.trial_seconds": "a trial that takes longer has failed",
    "limits.epoch_seconds": "so has one with an epoch that takes longer",
    "limits.max_consecutive_errors": "after so many the study stops itself",
    "enqueue": "configurations to try first; null: the defaults",
    "plugins": "Python files with parts of your own, beside this one",
    "checkpoints": "which of them are kept, and where",
    "checkpoints.keep": "behind the end of a trial: none, final or all",
    "checkpoints.path": "a folder or URL that all workers see; null: the study's",
    "budgets": "the rungs in epochs: min, min·eta, … up to max",
    "rungs": "of a promoted trial: retrain (from its first epoch), or continue",
    "primary": "the contrast declared beforehand, such as 'agn - val'",
    "matrix": "values by key, a study for each combination: {seed: [0, 1]}",
}

IMAGES = {
    "task.name": "hpogen list tasks",
    "task.dataset": "which images, and how they are split",
    "task.dataset.name": "hpogen list datasets",
    "task.dataset.path": "where it is, beginning at this file's folder",
    "task.dataset.size": "pixels: shorter side resized to it, centre cut out",
    "task.dataset.mean": "per channel, in [0, 1]; null: the images' own",
    "task.dataset.sd": "per channel, in [0, 1]; null: the images' own",
    "task.dataset.root": "of the files; null: $HPOGEN_DATA, or ~/.cache/hpogen",
    "task.dataset.subset": "share of the training set that is trained on",
    "task.dataset.balanced": "equally many images of each class in the subset",
    "task.dataset.validation": "images that the objective sees; null: up to 5,000",
    "task.dataset.audit": "held-out images, or test; null: up to 10,000",
    "task.dataset.augment": "standard: cropped at random, and mirrored",
    "task.dataset.rotate": "each image, by up to so many degrees",
    "task.dataset.corruption": "wrong labels in the subset",
    "task.dataset.corruption.fraction": "share of the labels that is drawn anew",
    "task.dataset.corruption.seed": "which ones; null: always the same",
    "task.dataset.seed": "of the splits",
    "task.dataset.download": "where it is not in root",
    "task.dataset.resident": "all images on the device: true, false, auto",
    "task.model": "the network",
    "task.model.name": "hpogen list models",
    "task.epochs": "of a full training",
    "task.optimizer": "sgd, adam or adamw",
    "task.schedule": "the learning rate over the epochs",
    "task.schedule.name": "constant, step or cosine",
    "task.schedule.milestones": "of step: epochs; none: at 1/2 and 3/4",
    "task.schedule.gamma": "of step: the factor at each milestone",
    "task.schedule.warmup": "epochs in which it rises to lr",
    "task.schedule.anchor": "what it spans: full epochs, or each trial's budget",
    "task.label_smoothing": "share of a label that is spread over the others",
    "task.measures": "written down, beside what the objective needs",
    "task.threads": "of torch, in each trial",
    "task.deterministic": "kernels that repeat bit for bit",
    "task.precision": "fp32, tf32 or bf16",
    "task.cuda_graphs": "on a GPU: a training step is one launch",
    "task.compile": "torch.compile: slow to begin, then fast",
}

OTHERS = {
    "task.command": "run in the folder that hpogen is started in",
    "task.metrics": "that the command prints after each epoch",
    "task.resumable": "whether it goes on after {start_epoch} epochs",
}

SEARCHERS = {
    "searcher.population": "configurations of a generation",
    "searcher.sigma": "first standard deviation, in the unit cube",
    "searcher.points": "values per number, or by name: {lr: 5}",
    "searcher.inertia": "the share of its velocity that a particle keeps",
    "searcher.cognitive": "its pull towards its own best",
    "searcher.social": "its pull towards the swarm's best",
    "searcher.velocity": "the most per step, in the unit cube",
    "searcher.topology": "whose best a particle follows: star (all) or ring",
    "searcher.neighbours": "of a particle in a ring",
    "searcher.brackets": "of successive halving; hpogen check counts their trials",
    "searcher.random_fraction": "share of configurations that ask no model",
    "searcher.top_n_percent": "share of the trials that count as good",
    "searcher.num_samples": "candidates, of which the best is taken",
    "searcher.bandwidth_factor": "widens the kernels that candidates are drawn from",
    "searcher.min_points_in_model": "trials before it models; null: parameters + 1",
    "searcher.sampler": "a class of optuna.samplers; its options stand beside it",
}
SAMPLER = {"asha": "random, or a class of optuna.samplers with its options"}

SPACE = {
    "search_space.batch_size": "images per step",
    "search_space.lr": "learning rate",
    "search_space.momentum": "of sgd; β₁ of adam and adamw",
    "search_space.weight_decay": "of the weights, in each step",
    "search_space.label_smoothing": "if not set in the task",
    "search_space.rotate": "degrees, if not set in the task",
}

EXPLAINED: Mapping[str, str] = {**STUDY, **IMAGES, **OTHERS, **SEARCHERS, **SPACE}
