"""Which hyper-parameters matter: planted ones are found in their proportion, others are not."""

from __future__ import annotations

import numpy as np
import pytest

from hpogen.analysis.importance import Importance, importance
from hpogen.space import Space
from hpogen.trial import Config

SPACE = Space.parse(
    {
        "x": {"float": [1e-4, 1.0], "log": True, "default": 0.1},
        "n": {"int": [1, 9], "default": 3},
        "kind": {"choice": ["a", "b", "c"], "default": "a"},
        "fixed": 3,
        "deep": {"float": [0.0, 1.0], "default": 0.5, "when": {"kind": "b"}},
    }
)


def drawn(n: int, seed: int = 0) -> list[Config]:
    generator = np.random.default_rng(seed)
    return [SPACE.sample(generator) for _ in range(n)]


def shares(found: Importance | None) -> dict[str, float]:
    assert found is not None
    total = sum(lost.mean for lost in found.parameters)
    return {lost.parameter: lost.mean / total for lost in found.parameters}


def test_an_additive_function_gives_each_parameter_its_share_of_the_variance() -> None:
    """Shuffling one term of a sum costs twice its variance, whatever the others are.

    The terms are (nearly) uniform and the ranks of the sum nearly linear in it: shares of R² are
    those of the variances, within what a forest of some hundreds of trials can tell.
    """
    configs = drawn(900)
    x = [np.log10(float(c["x"])) / 4 for c in configs]  # uniform on [−1, 0]
    n = [(int(c["n"]) - 1) / 8 for c in configs]
    scores = [2 * a + b for a, b in zip(x, n, strict=True)]
    found = importance(SPACE, [(configs, scores)])
    assert found is not None and found.r2 > 0.9
    variance = {"x": 4 * np.var(x), "n": np.var(n)}
    expected = {name: v / sum(variance.values()) for name, v in variance.items()}
    got = shares(found)
    assert got["x"] == pytest.approx(expected["x"], abs=0.06)
    assert got["n"] == pytest.approx(expected["n"], abs=0.06)
    assert abs(got["kind"]) < 0.02 and abs(got["deep"]) < 0.02
    assert [lost.parameter for lost in found.parameters[:2]] == ["x", "n"]
    assert "fixed" not in got


def test_a_conditional_parameter_can_matter() -> None:
    """It tells the choice, too, on which it depends: by being there."""
    configs = drawn(400)
    scores = [float(c.get("deep", 0.0)) + 2 * (c["kind"] == "b") for c in configs]
    got = shares(importance(SPACE, [(configs, scores)]))
    assert got["deep"] > 0.8
    assert abs(got["x"]) < 0.02 and abs(got["n"]) < 0.02


def test_only_the_order_of_scores_counts_and_each_search_has_its_own() -> None:
    first, second = drawn(60), drawn(60, seed=1)
    scores = [[float(c["x"]) for c in own] for own in (first, second)]
    plain = importance(SPACE, [(first, scores[0]), (second, scores[1])])
    bent = importance(
        SPACE, [(first, [x**3 for x in scores[0]]), (second, [1e6 + x for x in scores[1]])]
    )
    assert plain == bent
    assert plain is not None and plain.parameters[0].parameter == "x"


def test_scores_without_a_reason_explain_nothing() -> None:
    noise = [float(x) for x in np.random.default_rng(1).normal(size=200)]
    found = importance(SPACE, [(drawn(200), noise)])
    assert found is not None and found.r2 < 0.1


def test_what_cannot_be_said_is_none() -> None:
    configs = drawn(30)
    assert importance(SPACE, []) is None
    assert importance(SPACE, [(configs[:9], [float(i) for i in range(9)])]) is None
    assert importance(SPACE, [(configs, [1.0] * 30)]) is None
    assert importance(SPACE, [([configs[0]] * 30, [float(i) for i in range(30)])]) is None


def test_of_many_trials_a_thousand_are_taken() -> None:
    configs = drawn(1100)
    found = importance(SPACE, [(configs, [float(c["x"]) for c in configs])])
    assert found is not None and found.trials == 1000


def test_configurations_outside_the_space_are_left_out() -> None:
    """A searcher of one's own may ask for them, and a ledger may hold anything."""
    configs, scores = drawn(12), [float(i % 5) for i in range(12)]
    odd: list[Config] = [{**configs[0], "x": x} for x in ("score", -1.0, 0.0)]
    expected = importance(SPACE, [(configs, scores)])
    assert expected is not None
    assert importance(SPACE, [([*odd, *configs], [9.0, 9.0, 9.0, *scores])]) == expected
