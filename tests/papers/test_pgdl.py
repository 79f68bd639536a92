"""Grids, the PGDL score and the granulated Ψ, against slow implementations and by hand."""

from __future__ import annotations

import itertools
import math
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis.studies import Made, made, study
from hypothesis import given
from hypothesis import strategies as st

from hpogen.errors import Refusal, UserError
from hpogen.trial import Failure

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

from grids import factorial, granulated, granulated_study
from pgdl import pair_scores, score_studies, score_table

AXES = {"lr": [0.1, 0.01], "batch": [32, 64, 128], "decay": [0.0, 1e-3]}
CONFIGS = [dict(zip(AXES, v, strict=True)) for v in itertools.product(*AXES.values())]
GRID = factorial(CONFIGS)


def slow_pairs(
    configs: list[dict[str, float]], values: list[float], gaps: list[float]
) -> dict[tuple[str, str], float]:
    """measures.md's definition, one ordered pair of models after another."""
    scores = {}
    for names in itertools.combinations(configs[0], 2):
        cells = defaultdict(lambda: defaultdict(int))
        for i, j in itertools.product(range(len(configs)), repeat=2):
            key = tuple((configs[i][name], configs[j][name]) for name in names)
            cells[key][values[i] > values[j], gaps[i] > gaps[j]] += 1
        information, entropy = [], []
        for cell in cells.values():
            n = sum(cell.values())
            p = {signs: count / n for signs, count in cell.items()}
            of_value, of_gap = defaultdict(float), defaultdict(float)
            for (v, g), share in p.items():
                of_value[v] += share
                of_gap[g] += share
            information.append(
                sum(s * math.log2(s / (of_value[v] * of_gap[g])) for (v, g), s in p.items())
            )
            entropy.append(-sum(s * math.log2(s) for s in of_gap.values()))
        scores[names] = math.fsum(information) / math.fsum(entropy)
    return scores


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [3, 1000])  # with ties and hardly any
def test_the_score_is_that_of_its_definition(seed: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    values, gaps = generator.integers(levels, size=(2, 12)).astype(float)
    shuffled = generator.permutation(12)
    configs = [CONFIGS[i] for i in shuffled]
    ours = pair_scores(factorial(configs), values, gaps)
    slow = slow_pairs(configs, [*values], [*gaps])
    assert {frozenset(k): v for k, v in ours.items()} == pytest.approx(
        {frozenset(k): v for k, v in slow.items()}, abs=1e-12
    )


def test_two_by_two_by_two_by_hand() -> None:
    """Gaps 0 … 7 in the order a, b, c; a measure that is c alone.

    For (a, b): 16 cells of 2 × 2 ordered pairs. In the 4 cells of equal settings V_g is + in one of
    four pairs, and V_m with it: information = entropy = H(1/4). Elsewhere V_g is certain: both 0.
    For (a, c) and (b, c): the measure is decided by the cell: information 0.
    """
    configs = [dict(zip("abc", v, strict=True)) for v in itertools.product([0, 1], repeat=3)]
    grid = factorial(configs)
    gaps, c = np.arange(8), [config["c"] for config in configs]
    assert pair_scores(grid, c, gaps) == pytest.approx(
        {("a", "b"): 1.0, ("a", "c"): 0.0, ("b", "c"): 0.0}
    )


numbers = st.lists(st.integers(-9, 9), min_size=12, max_size=12).filter(lambda v: len({*v}) > 6)


@given(numbers, numbers)
def test_increasing_maps_of_measure_and_gap_change_nothing(v: list[int], g: list[int]) -> None:
    values, gaps = np.array(v, dtype=float), np.array(g, dtype=float)
    scores = pair_scores(GRID, values, gaps)
    assert scores == pair_scores(GRID, np.exp(values), gaps)
    assert scores == pair_scores(GRID, values, 3 * gaps - 5)
    assert all(0 <= score <= 1 + 1e-12 for score in scores.values())


@given(numbers)
def test_a_perfect_measure_scores_1_and_a_constant_one_0(g: list[int]) -> None:
    gaps = np.array(g, dtype=float)
    assert [*pair_scores(GRID, np.exp(gaps), gaps).values()] == pytest.approx([1, 1, 1])
    assert [*pair_scores(GRID, np.ones(12), gaps).values()] == pytest.approx([0, 0, 0], abs=1e-12)


def models(seed: int = 0) -> list[Made]:
    generator = np.random.default_rng(seed)
    gaps = generator.permutation(12) / 50
    noise = generator.normal(size=12)
    return [
        made(c, 0.9, 0.9 - gap, loss=0.2, perfect=gap * 7, constant=1.0, noise=e)
        for c, gap, e in zip(CONFIGS, gaps, noise, strict=True)
    ]


def test_studies_are_tasks(tmp_path: Path) -> None:
    folders = [study(tmp_path / str(seed), models(seed), searcher="grid") for seed in range(2)]
    perfect, constant, noise = score_studies(folders, ["perfect", "constant", "noise"])
    assert perfect.score == pytest.approx(100)
    assert constant.score == pytest.approx(0, abs=1e-9)
    slow = [
        slow_pairs(
            CONFIGS, [m["noise"] for _, m, _ in made_up], [-a["accuracy"] for *_, a in made_up]
        )
        for made_up in (models(0), models(1))
    ]
    assert [task.score for task in noise.tasks] == pytest.approx([min(s.values()) for s in slow])
    assert noise.score == pytest.approx(50 * sum(min(s.values()) for s in slow))


def table(seeds: int = 2) -> pd.DataFrame:
    rows = [
        {"task": seed, **config, "gap": m["train_accuracy"] - a["accuracy"], **m}
        for seed in range(seeds)
        for config, m, a in models(seed)
    ]
    return pd.DataFrame(rows)


def test_a_table_of_published_models_scores_as_the_studies_do(tmp_path: Path) -> None:
    folders = [study(tmp_path / str(seed), models(seed)) for seed in range(2)]
    from_studies = score_studies(folders, ["noise"])[0].score
    path = tmp_path / "models.csv"
    table().to_csv(path, index=False)
    for source in (path, table()):
        (score,) = score_table(source, ["noise"], [*AXES], task="task")
        assert score.score == pytest.approx(from_studies)
        assert [task.task for task in score.tasks] == ["0", "1"]
    (one,) = score_table(table(1), ["perfect"], [*AXES])
    assert one.score == pytest.approx(100)


def test_a_table_says_what_is_missing() -> None:
    rows = table()
    with pytest.raises(UserError, match="column 'nois' is unknown; did you mean 'noise'"):
        score_table(rows, ["nois"], [*AXES], task="task")
    with pytest.raises(Refusal, match=r"^1: no complete grid: 1 of 12 .*lr=0.01, batch=128, decay"):
        score_table(rows.iloc[:-1], ["noise"], [*AXES], task="task")
    with pytest.raises(Refusal, match="more than one model in 12 of 12 combinations"):
        score_table(rows, ["noise"], [*AXES])


def test_a_study_without_a_complete_grid_is_refused_naming_what_is_missing(tmp_path: Path) -> None:
    finished: list[Made | Failure] = [*models()]
    finished[3] = Failure("diverged", "NaN")
    message = (
        r"made-up: no complete grid: 1 of 12 combinations are missing: "
        r"\(lr=0.1, batch=64, decay=0.001\) \(left out: 1 failed\)"
    )
    folder = study(tmp_path / "a", finished)
    for score in (lambda: score_studies([folder], ["noise"]), lambda: psi(folder)):
        with pytest.raises(Refusal, match=message):
            score()
    random = [made({"lr": 0.1 * i, "batch": 32 + i}, 0.9, 0.8, noise=0.0) for i in range(5)]
    with pytest.raises(Refusal, match=r"20 of 25 .*, …$"):
        psi(study(tmp_path / "b", random))
    same = [made({"lr": 0.1}, 0.9, 0.8, noise=0.0)]
    with pytest.raises(Refusal, match="no hyper-parameter varies"):
        psi(study(tmp_path / "c", same))


def psi(folder: Path) -> object:
    return granulated_study(folder, ["noise"])


def test_conditional_parameters_and_missing_measures_are_no_grid(tmp_path: Path) -> None:
    finished = models()
    finished[5][1].pop("noise")
    with pytest.raises(Refusal, match="1 of 12 models have no value"):
        score_studies([study(tmp_path, finished)], ["noise"])
    configs = [{"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adam"}]
    with pytest.raises(Refusal, match="1 have no momentum"):
        factorial(configs, ["optimizer", "momentum"])
    with pytest.raises(Refusal, match="more than one model in 1 of 1"):
        factorial([{"a": 1}, {"a": 1}], ["a"])


def test_two_hyperparameters_leave_nothing_to_tell() -> None:
    configs = [{"a": a, "b": b} for a in (0, 1) for b in (0, 1)]
    with pytest.raises(Refusal, match="a and b alone decide the order"):
        pair_scores(factorial(configs), range(4), range(4))
    with pytest.raises(Refusal, match="at least three hyper-parameters, got a"):
        pair_scores(factorial([{"a": 0}, {"a": 1}]), range(2), range(2))


def slow_psi(configs: list[dict[str, float]], v: np.ndarray, g: np.ndarray) -> dict[str, float]:
    """Jiang et al. 2019: τ of each group of models that differ in one hyper-parameter alone."""
    result = {}
    for name in configs[0]:
        groups = defaultdict(list)
        for i, config in enumerate(configs):
            groups[tuple(x for key, x in config.items() if key != name)].append(i)
        taus = []
        for group in groups.values():
            pairs = list(itertools.permutations(group, 2))
            taus.append(
                sum(np.sign(v[i] - v[j]) * np.sign(g[i] - g[j]) for i, j in pairs) / len(pairs)
            )
        result[name] = float(np.mean(taus))
    return result


@given(numbers, numbers, st.permutations(range(12)))
def test_granulated_psi_is_that_of_its_definition(
    v: list[int], g: list[int], order: list[int]
) -> None:
    values, gaps = np.array(v, dtype=float), np.array(g, dtype=float)
    configs = [CONFIGS[i] for i in order]
    result = granulated("m", factorial(configs), values, gaps)
    expected = slow_psi(configs, values, gaps)
    assert result.psi == pytest.approx(expected)
    assert result.mean == pytest.approx(np.mean([*expected.values()]))


def test_psi_by_hand() -> None:
    configs = [{"a": a, "b": b} for a in (0, 1) for b in (0, 1, 2)]
    gaps = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]
    values = [0.0, 1.0, 1.0, 0.0, 2.0, 1.0]  # along b: (2 of 3, a tie) and (2 of 3, one wrong)
    result = granulated("m", factorial(configs), values, gaps)
    assert result.psi == pytest.approx({"a": 1 / 3, "b": (2 / 3 + 1 / 3) / 2})
    assert result.mean == pytest.approx(5 / 12)


def test_psi_of_a_study(tmp_path: Path) -> None:
    folder = study(tmp_path, models(), searcher="grid")
    perfect, constant = granulated_study(folder, ["perfect", "constant"])
    assert perfect.psi == dict.fromkeys(AXES, 1.0)
    assert (perfect.mean, constant.mean) == (1.0, 0.0)
