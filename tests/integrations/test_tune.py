"""`TuneSearch` against the searcher that it wraps, and in a real Ray Tune that is broken off."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune.search import ConcurrencyLimiter

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.integrations.tune import TuneSearch
from hpogen.space import Space
from hpogen.spec.form import USUAL
from hpogen.trial import Config

NUMBERS: dict[str, Any] = {
    "x": {"float": [0.0, 1.0], "default": 0.5},
    "y": {"int": [1, 1000], "log": True, "default": 30},
}
MIXED = {**NUMBERS, "z": {"choice": ["a", "b"], "default": "b"}}
KINDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("random", MIXED, {}),
    ("grid", MIXED, {"points": 4}),
    ("cmaes", MIXED, {"population": 6}),
    ("pso", NUMBERS, {"population": 5}),
    ("optuna", MIXED, {"sampler": "TPESampler", "n_startup_trials": 4}),
]
every_kind = pytest.mark.parametrize(("name", "space", "options"), KINDS, ids=[k[0] for k in KINDS])


def bowl(config: Config) -> float:
    x, y = float(config["x"]), float(config["y"])
    return (x - 0.3) ** 2 + (math.log10(y) - 1) ** 2


def scored(number: int, config: Config) -> float:
    """The score of a trial; every seventh fails."""
    return math.inf if number % 7 == 6 else bowl(config)


def direct(searcher: str, space: dict[str, Any], options: dict[str, Any], n: int) -> list[Config]:
    """What the searcher proposes when each trial is told before the next one is asked for."""
    cls, parsed = plugins.searchers.get(searcher), Space.parse(space)
    engine = cls(parsed, (1,), 0, enqueue=[parsed.default] * cls.enqueues_default, **options)
    configs = []
    while len(configs) < n and (proposal := engine.ask()) is not None:
        engine.tell(len(configs), scored(len(configs), proposal.config))
        configs.append(proposal.config)
    return configs


class Driver:
    """Runs trials in random order of completion, as Tune would, `slots` at a time."""

    def __init__(self, search: TuneSearch, slots: int = 3) -> None:
        self.search = search
        self.configs: list[Config] = []
        self._slots = slots
        self._running: list[int] = []
        self._chance = random.Random(0)

    def run(self, trials: int) -> Driver:
        """Go on until so many trials have been asked for, or there are no more."""
        while len(self.configs) < trials:
            free = len(self._running) < self._slots
            config = self.search.suggest(f"t{len(self.configs)}") if free else None
            if config == TuneSearch.FINISHED:
                break
            if config is None:
                self._complete()
            else:
                self._running.append(len(self.configs))
                self.configs.append(config)
        return self

    def _complete(self) -> None:
        number = self._running.pop(self._chance.randrange(len(self._running)))
        score = scored(number, self.configs[number])
        if math.isinf(score):
            self.search.on_trial_complete(f"t{number}", None, error=True)
        else:
            self.search.on_trial_complete(f"t{number}", {"loss": score})


def pso(**keys: Any) -> TuneSearch:
    return TuneSearch(NUMBERS, "pso", **{"metric": "loss", "population": 5, **keys})


@every_kind
def test_tune_is_given_what_the_searcher_proposes(
    name: str, space: dict[str, Any], options: dict[str, Any]
) -> None:
    driver = Driver(TuneSearch(space, name, metric="loss", **options), slots=1).run(40)
    assert driver.configs == direct(name, space, options, 40)
    assert len(driver.configs) == (32 if name == "grid" else 40)


def by_json(search: TuneSearch, make: Callable[[], TuneSearch], folder: Path) -> TuneSearch:
    search.save_to_dir(str(folder), "now")
    again = make()
    again.restore_from_dir(str(folder))
    return again


def by_pickle(search: TuneSearch, make: Callable[[], TuneSearch], folder: Path) -> TuneSearch:
    again: TuneSearch = pickle.loads(pickle.dumps(search))
    return again


@every_kind
@pytest.mark.parametrize("way", [by_json, by_pickle])
def test_what_was_saved_midway_goes_on_as_if_nothing_had_happened(
    way: Any, name: str, space: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    def make() -> TuneSearch:
        return TuneSearch(space, name, metric="loss", **options)

    whole = Driver(make()).run(30).configs
    for stop in (0, 8, 13):  # nothing asked; within a generation; in another one
        driver = Driver(make()).run(stop)
        driver.search = way(driver.search, make, tmp_path)
        assert driver.run(30).configs == whole


def test_the_seed_decides() -> None:
    assert Driver(pso()).run(12).configs == Driver(pso(seed=0)).run(12).configs
    assert Driver(pso()).run(12).configs != Driver(pso(seed=1)).run(12).configs


def test_none_while_a_generation_is_out_and_finished_at_the_end() -> None:
    search = pso()
    first = [search.suggest(f"a{i}") for i in range(5)]
    assert None not in first and first[0] == {"x": 0.5, "y": 30}
    assert search.suggest("b") is None
    for i in range(5):
        assert search.suggest("b") is None
        search.on_trial_complete(f"a{i}", {"loss": 1.0})
    assert isinstance(search.suggest("b"), dict)
    grid = TuneSearch({"x": NUMBERS["x"]}, "grid", points=2, metric="loss")
    assert [type(grid.suggest(str(i))) for i in range(2)] == [dict, dict]
    assert grid.suggest("2") is None  # a trial runs: Tune asks again
    grid.on_trial_complete("0", {"loss": 1.0})
    grid.on_trial_complete("1", {"loss": 1.0})
    assert grid.suggest("2") == TuneSearch.FINISHED


def told(search: TuneSearch, path: Path) -> list[float | None]:
    search.save(str(path))
    return [call["score"] for call in json.loads(path.read_text())["calls"] if "told" in call]


@pytest.mark.parametrize("mode", ["min", "max", None])
def test_scores_are_lower_is_better_and_finite_or_the_worst(mode: Any, tmp_path: Path) -> None:
    search = TuneSearch(NUMBERS, "random", metric="loss", mode=mode)
    for i in range(7):
        search.suggest(str(i))
    for i, value in enumerate([2.5, math.nan, math.inf, -math.inf]):
        search.on_trial_complete(str(i), {"loss": value})
    search.on_trial_complete("4", {"loss": 1.0}, error=True)
    search.on_trial_complete("5", None)
    assert told(search, tmp_path / "s") == [-2.5 if mode == "max" else 2.5, *[None] * 5]
    search.on_trial_complete("5", {"loss": 1.0})  # tried once more by Tune: it was told already
    search.on_trial_complete("never seen", {"loss": 1.0})
    assert len(told(search, tmp_path / "s")) == 6
    with pytest.raises(UserError, match=r"metric 'loss' is unknown; .*'los'"):
        search.on_trial_complete("6", {"los": 1.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_a_failed_trial_to_the_searcher(value: float) -> None:
    following = []
    for error in (True, False):
        search = TuneSearch(NUMBERS, "cmaes", metric="loss", population=5)
        for i in range(5):
            search.suggest(str(i))
        for i in range(4):
            search.on_trial_complete(str(i), {"loss": float(i)})
        search.on_trial_complete("4", {"loss": value}, error=error)
        following.append(search.suggest("5"))
    assert following[0] == following[1] is not None


def test_metric_and_mode_come_from_tune_where_they_are_left_out(tmp_path: Path) -> None:
    search = TuneSearch(NUMBERS, "random")
    with pytest.raises(UserError, match="metric is not set: give it to TuneSearch"):
        search.suggest("0")
    assert search.set_search_properties("accuracy", "max", {"epochs": 3}) is False
    assert (search.metric, search.mode) == ("accuracy", "max")
    search.suggest("0")
    search.on_trial_complete("0", {"accuracy": 0.75})
    assert told(search, tmp_path / "s") == [-0.75]
    for metric, mode in [("loss", "max"), ("accuracy", "min")]:
        with pytest.raises(UserError, match=r"got '\w+', but tune.TuneConfig has"):
            search.set_search_properties(metric, mode, {})
    with pytest.raises(UserError, match="'y' is searched, and stands in param_space, too"):
        search.set_search_properties("accuracy", "max", {"y": 3})


def test_spaces_may_be_mappings_files_or_parsed(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("x: {float: [0, 1], default: 0.5}\ny: {int: [1, 1000], log: true, default: 30}")
    whole = Driver(pso()).run(7).configs
    for space in (path, str(path), Space.parse(NUMBERS)):
        search = TuneSearch(space, "pso", metric="loss", population=5)
        assert Driver(search).run(7).configs == whole
    path.write_text("x: {float: [0, 1]}\ny: {int: [1, 1000], lgo: true}")
    with pytest.raises(UserError, match=r"space\.yaml:2:\d+: y.*lgo"):
        TuneSearch(path)


def test_what_to_try_first() -> None:
    ours = [{"x": 0.1}, {"x": 0.2, "y": 7}]
    first = Driver(pso(enqueue=ours)).run(2).configs
    assert first == [{"x": 0.1, "y": 30}, {"x": 0.2, "y": 7}]
    assert Driver(pso(enqueue=[])).run(1).configs != Driver(pso()).run(1).configs


def test_left_out_it_is_the_usual_searcher() -> None:
    usual = Driver(TuneSearch(MIXED, metric="loss")).run(7).configs
    assert usual == Driver(TuneSearch(MIXED, USUAL, metric="loss")).run(7).configs


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (NUMBERS, {"searcher": "bohb", "brackets": 3}, r"searcher: 'bohb' proposes several budgets"),
    (NUMBERS, {"searcher": "asha"}, r"searcher: 'asha' proposes several budgets"),
    (
        NUMBERS,
        {"searcher": "hyperband"},
        r"use one of those beside another searcher, or hpogen run",
    ),
    (NUMBERS, {"searcher": "psoo"}, r"searcher.name: 'psoo' is unknown; did you mean 'pso'"),
    (
        NUMBERS,
        {"searcher": "pso", "populaton": 5},
        r"searcher.populaton: .*did you mean 'population'",
    ),
    (
        NUMBERS,
        {"searcher": "pso", "population": 1},
        r"searcher.population: got 1, expected at least 2",
    ),
    (NUMBERS, {"searcher": "pso", "inertia": math.nan}, r"searcher.inertia: got nan"),
    (MIXED, {"searcher": "pso"}, r"searcher: pso: 'z' is a choice"),
    (NUMBERS, {"mode": "mni"}, r"mode: 'mni' is unknown; did you mean 'min'"),
    (NUMBERS, {"seed": -1}, r"seed: got -1, expected an integer of at least 0"),
    (NUMBERS, {"enqueue": [{"x": 3.0}]}, r"enqueue.0.x: got 3.0"),
    ({"x": {"flaot": [0, 1]}}, {}, r"search_space.x: got keys \['flaot'\]"),
    ({"x": tune.uniform(0, 1)}, {}, r"a search space is written as in a study's YAML"),
    (3, {}, r"search_space: got 3"),
    ("nowhere.yaml", {}, r"search_space: nowhere.yaml: does not exist"),
]


@pytest.mark.parametrize(("space", "keys", "text"), REFUSED)
def test_mistakes_are_one_line(space: Any, keys: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text) as raised:
        TuneSearch(space, **keys)
    assert str(raised.value).startswith("TuneSearch: ") and "\n" not in str(raised.value)


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    Driver(pso()).run(8).search.save(str(path))
    whole = path.read_text()
    with pytest.raises(UserError, match=r"state.json: searcher.population: saved with 5, but .* 6"):
        pso(population=6).restore(str(path))
    with pytest.raises(UserError, match=r"state.json: seed: saved with 0, but it is now 1"):
        pso(seed=1).restore(str(path))
    with pytest.raises(UserError, match=r"metric: got 'other', but .*state.json has 'loss'"):
        pso(metric="other").restore(str(path))
    for damaged in (whole[:-20], "[]", '{"format": 1}'):
        path.write_text(damaged)
        with pytest.raises(UserError, match="is not a state that TuneSearch saved"):
            pso().restore(str(path))
    path.write_text(whole.replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="another format"):
        pso().restore(str(path))
    calls = whole.index('"calls"')
    path.write_text(whole[:calls] + whole[calls:].replace('"x": 0.5,', '"x": 0.51,'))
    with pytest.raises(UserError, match="on replay the searcher proposes"):
        pso().restore(str(path))
    with pytest.raises(UserError, match="is not a state that TuneSearch saved"):
        pso().restore(str(tmp_path / "missing"))


def test_another_machines_last_digits_are_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    driver = Driver(pso()).run(8)
    driver.search.save(str(path))
    state = json.loads(path.read_text())
    asked = [call for call in state["calls"] if "asked" in call]
    asked[-1]["config"]["x"] = math.nextafter(asked[-1]["config"]["x"], 2.0)
    path.write_text(json.dumps(state))
    driver.search = pso()
    driver.search.restore(str(path))
    assert driver.run(20).configs == Driver(pso()).run(20).configs


def test_it_can_be_limited() -> None:
    limited = ConcurrencyLimiter(pso(), max_concurrent=2)
    assert [type(limited.suggest(str(i))) for i in range(3)] == [dict, dict, type(None)]


class BrokenOff(Exception):
    """Stands for whatever ends a program that runs Tune."""


class BreakOff(tune.Callback):
    """Ends `Tuner.fit` when so many trials have completed; once, which the file `flag` tells."""

    def __init__(self, after: int, flag: Path) -> None:
        self._after = after
        self._flag = flag  # Tune keeps its callbacks over a restore

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        ended = sum(trial.status == "TERMINATED" for trial in trials)
        if ended >= self._after and not self._flag.exists():
            self._flag.touch()
            upload(trials[0].storage)
            raise BrokenOff


def upload(storage: Any) -> None:
    """Have the state that Tune saved in the experiment's folder, and nothing on its way there.

    Tune copies it in the background: a copy under way when the run is restored can be met half
    written, which Tune answers by beginning anew. A copy that met the next save has failed.
    """
    with contextlib.suppress(Exception):
        storage.syncer.wait()
    assert storage.syncer.sync_up(
        storage.experiment_driver_staging_path, storage.experiment_fs_path
    )
    storage.syncer.wait()


@pytest.fixture
def cluster() -> Iterator[None]:
    """The Ray that other tests have connected this process to, or one of its own."""
    if ray.is_initialized():
        yield
        return
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def trainable() -> Callable[[Config], None]:
    """A function that workers take by value, so that they need not import this file."""

    def train(config: Config) -> None:
        distance = math.log10(float(config["y"])) - 1
        tune.report({"loss": (float(config["x"]) - 0.3) ** 2 + distance**2})

    return train


@pytest.mark.ray
def test_in_ray_tune_broken_off_and_restored(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")  # the state is written at every step
    train = trainable()
    tuner = tune.Tuner(
        train,
        param_space={"constant": 3},
        tune_config=tune.TuneConfig(
            search_alg=TuneSearch(NUMBERS, "pso", population=5),
            metric="loss",
            mode="min",
            num_samples=30,
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            name="bowl",
            verbose=0,
            callbacks=[BreakOff(13, tmp_path / "broken off")],
        ),
    )
    with pytest.raises(BrokenOff):
        tuner.fit()
    state = json.loads(next((tmp_path / "bowl").glob("searcher-state-*.json")).read_text())
    assert 13 <= sum("told" in call for call in state["calls"]) <= 15

    results = tune.Tuner.restore(str(tmp_path / "bowl"), train).fit()
    assert not results.errors
    assert {result.config["constant"] for result in results} == {3}
    found = sorted((result.config["x"], result.config["y"]) for result in results)
    driver = Driver(pso(), slots=2)
    monkeypatch.setitem(globals(), "scored", lambda number, config: bowl(config))
    assert found == sorted((c["x"], c["y"]) for c in driver.run(30).configs)
    assert bowl(results.get_best_result().config) == min(map(bowl, driver.configs))
