"""Tuning: what is searched, stopped and chosen, and a study that outlives the processes that work on it."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import amzrec
import servers
from amzrec.cli.app import app
from amzrec.config import DataFacts, Recipe, TrainConfig
from amzrec.errors import AmzrecError
from amzrec.evaluation.pictures import draw_front
from amzrec.store.dataset import Dataset
from amzrec.store.ownership import is_picture
from amzrec.tuning import work
from amzrec.tuning.front import Objective, Tried, chosen, pareto
from amzrec.tuning.pruning import is_behind
from amzrec.tuning.space import dimensions
from voices import Voice

pytest.importorskip("optuna", reason="pip install 'amzrec[tune]'")

FACTS = DataFacts(fitted=1_000, candidates=50, rated=True, dated=True, valid=True)
SMALL = TrainConfig(dim=12, head=(4,), epochs=2, own_vector=3)
RMSE, NDCG = Objective("rating", "rmse", True), Objective("retrieval", "ndcg", False)


# --- what is searched


@pytest.mark.parametrize("preset", ["full", "ids", "sequence", "clicks"])
def test_every_range_holds_the_default_and_the_learning_rate_goes_no_higher_than_three_times_it(preset: str) -> None:
    config = TrainConfig.of(preset=preset)
    recipe = config.resolve(FACTS)
    found = {each.name: each for each in dimensions(recipe, config)}
    for name, each in found.items():
        assert each.low <= getattr(recipe, name) <= each.high
    assert found["learning_rate"].high <= 3 * recipe.learning_rate
    assert ("l2_history" in found) == (preset != "ids")
    assert ("order_dropout" in found) == (preset == "sequence")


def test_what_is_given_or_changes_nothing_is_not_searched() -> None:
    config = TrainConfig(dim=64, retrieval_weight=0.0)
    names = [each.name for each in dimensions(config.resolve(FACTS), config)]
    assert names == ["learning_rate", "l2", "l2_history", "history_dropout"]
    assert [each.name for each in dimensions(config.resolve(FACTS), config, ["l2"])] == ["l2"]


@pytest.mark.parametrize(
    ("config", "names", "text"),
    [
        (TrainConfig(), ["learnign_rate"], r"names 'learnign-rate', which is not tuned; did you mean learning-rate\?"),
        (TrainConfig(dim=64), ["dim"], "--dim is given and named in --tuned"),
        (TrainConfig(retrieval_weight=0), ["temperature"], "--temperature changes nothing"),
    ],
)
def test_a_name_that_cannot_be_tuned_is_refused(config: TrainConfig, names: list[str], text: str) -> None:
    with pytest.raises(AmzrecError, match=text):
        dimensions(config.resolve(FACTS), config, names)


# --- what is stopped, what is chosen


def test_a_trial_is_behind_when_its_best_so_far_is_under_the_median_of_both_objectives() -> None:
    paths = [[[a, a], [a, a], [a, a], [9.0, 9.0]] for a in (1.0, 2.0, 3.0, 4.0)]  # medians after 3 epochs: 2.5
    others = [(path, True) for path in paths]
    assert is_behind([[2.4, 2.0], [0.0, 2.4], [0.0, 0.0]], others)
    assert not is_behind([[2.4, 0.0], [0.0, 2.6], [0.0, 0.0]], others)  # ahead in one
    assert not is_behind([[0.0, 0.0], [0.0, 0.0]], others)  # too early
    assert not is_behind([[0.0, 0.0]] * 3, others[:3])  # too few others
    early = [(path[:2], finished) for path, finished in zip(paths, (True, True, True, False), strict=True)]
    assert not is_behind([[0.0, 0.0]] * 3, early)  # the last one has not come as far
    assert is_behind([[0.0, 0.0]] * 3, [*early[:3], (paths[3], False)])


def made(number: int, rmse: float, ndcg: float, state: str = "complete", usual: bool = False) -> Tried:
    return Tried(number, state, {}, (rmse, ndcg), usual=usual)


def test_the_front_are_the_trials_that_no_other_one_beats() -> None:
    trials = [made(0, 0.9, 0.3), made(1, 0.8, 0.2), made(2, 0.9, 0.2), made(3, 0.7, 0.1), made(4, 0.9, 0.3)]
    trials.append(made(5, 0.1, 0.9, "pruned"))
    assert [t.number for t in pareto(trials, [RMSE, NDCG])] == [3, 1, 0]


def test_the_recipe_is_the_largest_gain_among_the_trials_that_are_behind_the_defaults_in_nothing() -> None:
    usual = made(0, 1.0, 0.5, usual=True)
    trials = [usual, made(1, 0.5, 0.49), made(2, 0.99, 0.52), made(3, 0.95, 0.505), made(4, 0.97, 0.518)]
    best = chosen(trials, [RMSE, NDCG])
    assert best
    assert best.number == 4  # gains of .03 + .036, against .05 + .01 and .01 + .04
    only = chosen([usual, trials[1]], [RMSE, NDCG])
    assert only is usual
    assert chosen([], [RMSE, NDCG]) is None
    without = chosen([made(1, 0.5, 0.4), made(2, 0.9, 0.5)], [RMSE, NDCG])  # .4/.9 against .1/.4
    assert without
    assert without.number == 1


# --- a study of trials whose figures are known: the best learning rate is 0.01


def known(dataset: Any, recipe: Recipe, objectives: Any, told: Callable[[list[float]], None], progress: Any) -> Any:
    """Stand in for a training: four epochs, of which the third is the best."""
    far = abs(math.log(recipe.learning_rate / 0.01))
    for epoch in (1, 2, 3, 4):
        late = abs(epoch - 3) / 10
        told([-(0.8 + far + late), 0.5 - far / 10 - late])
    return [0.8 + far, 0.5 - far / 10], {"rating": 3, "retrieval": 3}


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amzrec.tuning.work.measured", known)


@pytest.mark.usefixtures("untrained")
def test_the_search_comes_near_the_best_setting_and_writes_what_it_found(checkerboard: Path, tmp_path: Path) -> None:
    voice, out = Voice(), tmp_path / "tune"
    found = amzrec.tune(checkerboard, SMALL, trials=14, tuned=["learning-rate"], out=out, progress=voice)
    trials = found["trials"]
    assert [trial["number"] for trial in trials] == list(range(14))
    assert trials[0]["usual"]
    assert trials[0]["settings"] == {"learning_rate": 0.005}
    assert trials[0]["figures"]["rmse"] == pytest.approx(0.8 + math.log(2))
    assert trials[0]["best_epochs"] == {"rating": 3, "retrieval": 3}
    best = min(trials, key=lambda t: abs(math.log(t["settings"]["learning_rate"] / 0.01)))
    assert found["chosen"] == best["number"]
    assert found["front"] == [best["number"]]
    assert {t["state"] for t in trials} == {"complete", "pruned"}
    assert all(t["epochs"] in (3, 4) for t in trials if t["state"] == "pruned")
    recipe = json.loads((out / "recipe.json").read_text())
    given = {"dim": 12, "head": [4], "epochs": 2, "own_vector": 3}
    assert recipe == given | best["settings"]
    assert json.loads((out / "tune.json").read_text()) == found
    assert is_picture(out / "front.png")
    assert sum(line.startswith("trial ") for line in voice.lines) == 14


@pytest.mark.long
@pytest.mark.usefixtures("untrained")
def test_a_study_that_is_gone_on_with_is_the_one_that_was_not_interrupted(checkerboard: Path, tmp_path: Path) -> None:
    names = ["learning-rate", "l2"]
    whole = amzrec.tune(checkerboard, SMALL, trials=9, tuned=names, out=tmp_path / "whole")
    for trials in (2, 5, 9):
        parts = amzrec.tune(checkerboard, SMALL, trials=trials, tuned=names, out=tmp_path / "parts")
        assert len(parts["trials"]) == trials
    assert [t["settings"] for t in parts["trials"]] == [t["settings"] for t in whole["trials"]]
    voice = Voice()
    amzrec.tune(checkerboard, SMALL, trials=9, tuned=names, out=tmp_path / "parts", progress=voice)
    assert any("going on with the study" in line and "9 trials" in line for line in voice.lines)
    other = amzrec.tune(checkerboard, SMALL.replace(seed=5), trials=2, tuned=names, out=tmp_path / "parts")
    assert other["study"] != parts["study"]  # other settings are another study
    assert len(other["trials"]) == 2


def test_the_defaults_are_the_recipe_where_nothing_is_better(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def best_at_the_start(dataset: Any, recipe: Recipe, *_: Any) -> Any:
        far = abs(math.log(recipe.learning_rate / 0.005))
        return [0.8 + far, 0.5 - far], {}

    monkeypatch.setattr("amzrec.tuning.work.measured", best_at_the_start)
    found = amzrec.tune(checkerboard, SMALL, trials=4, tuned=["learning-rate"], out=tmp_path / "t")
    assert found["chosen"] == 0
    assert "learning_rate" not in json.loads((tmp_path / "t" / "recipe.json").read_text())


def test_failed_trials_are_counted_and_said_and_interrupted_ones_are_not(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise AmzrecError("the loss is no longer a number")

    def stops(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("amzrec.tuning.work.measured", stops)
    voice = Voice()
    with pytest.raises(KeyboardInterrupt):
        amzrec.tune(checkerboard, SMALL, trials=3, out=tmp_path / "t", progress=voice)
    assert voice.lines[-1] == "stopped: 0 trials are kept, and the same command goes on with them"
    monkeypatch.setattr("amzrec.tuning.work.measured", fails)
    with pytest.raises(AmzrecError, match=r"no trial of the study .* was finished: the loss is no longer a number"):
        amzrec.tune(checkerboard, SMALL, trials=3, out=tmp_path / "t")
    monkeypatch.setattr("amzrec.tuning.work.measured", known)
    found = amzrec.tune(checkerboard, SMALL, trials=4, out=tmp_path / "t")
    assert [t["state"] for t in found["trials"]] == ["interrupted", "failed", "failed", "failed", "complete"]


def test_a_trial_that_others_took_for_dead_is_let_go(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    taken: list[int] = []

    def taken_for_dead(*arguments: Any) -> Any:
        if not taken:
            summary = optuna.get_all_study_names(f"sqlite:///{tmp_path}/t/study.db")[0]
            study = optuna.load_study(study_name=summary, storage=f"sqlite:///{tmp_path}/t/study.db")
            study.tell(0, state=optuna.trial.TrialState.FAIL)
            taken.append(0)
        return known(*arguments)

    monkeypatch.setattr("amzrec.tuning.work.measured", taken_for_dead)
    found = amzrec.tune(checkerboard, SMALL, trials=2, tuned=["l2"], out=tmp_path / "t")
    assert [t["state"] for t in found["trials"]] == ["interrupted", "complete", "complete"]


def test_a_trial_in_which_the_minutes_end_does_not_count(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amzrec.tuning.work.measured", known)
    with pytest.raises(AmzrecError, match=r"in time: give it more --minutes"):
        amzrec.tune(checkerboard, SMALL, minutes=1e-9, out=tmp_path / "t")
    found = amzrec.tune(checkerboard, SMALL, trials=1, minutes=5, out=tmp_path / "t")
    assert [t["state"] for t in found["trials"]] == ["complete"]


def test_the_picture_of_one_objective_shows_trials_by_number(tmp_path: Path) -> None:
    trial = {"state": "complete", "usual": False, "figures": {"rmse": 0.9}}
    document = {
        "study": "s",
        "objectives": [{"name": "rmse", "lower": True}],
        "trials": [trial | {"number": 0, "usual": True}, trial | {"number": 1}, trial | {"number": 2, "figures": None}],
        "front": [1],
        "chosen": 1,
    }
    assert is_picture(draw_front(document, tmp_path / "p.png"))


# --- bad input


def test_bad_input_is_one_line_and_leaves_nothing(checkerboard: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    foreign = tmp_path / "mine.db"
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE letters (text)")
        connection.commit()
    before = foreign.read_bytes()
    (tmp_path / "r.csv").write_text(
        "customer,product,stars\n" + "".join(f"a{i % 9},b{i % 7},{i % 5}\n" for i in range(90))
    )
    board = str(checkerboard)
    for words, text in (
        ([board, "--trials", "0"], "--trials is 0; allowed: a whole number from 1"),
        ([board, "--minutes", "-1"], "--minutes is -1.0; allowed: a number above 0"),
        ([board, "--workers", "0"], "--workers is 0"),
        ([board, "--study", "redis://x"], "--study is 'redis://x'; allowed: postgresql://"),
        ([board, "--study", "sqlite://"], "names no file"),
        ([board, "--study", "sqlite:///mine.db"], "holds no study, so nothing is written there"),
        ([board, "--tuned", "epochs"], "which is not tuned"),
        (["r.csv", "--valid", "0"], "has no valid reviews to choose on: prepare it with --valid 0.1"),
    ):
        done = CliRunner().invoke(app, ["tune", *words])
        assert done.exit_code == 1, words
        assert text in done.stderr, done.stderr
        assert done.stderr.count("amzrec: error: ") == 1
        assert "Traceback" not in done.output
        assert not (tmp_path / "tune").exists(), words
    assert foreign.read_bytes() == before


def test_without_optuna_it_says_what_to_install(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(AmzrecError, match=r"pip install 'amzrec\[tune\]'"):
        amzrec.tune(checkerboard, SMALL, out=tmp_path / "t")


# --- real trainings


@pytest.mark.long
@pytest.mark.usefixtures("eagerly")
def test_a_trial_is_the_first_phase_of_train_and_its_recipe_gives_the_same_figures(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untouched(self: Dataset) -> Any:
        raise AssertionError("tuning reads test reviews")

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "test", property(untouched))
        out = tmp_path / "tune"
        found = amzrec.tune(checkerboard, SMALL, trials=3, tuned=["learning-rate", "l2"], out=out)
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 3
    best = found["trials"][found["chosen"]]
    words = ["train", checkerboard, "--recipe", found["recipe"], "--run", tmp_path / "run"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    for task, name in (("rating", "rmse"), ("retrieval", "ndcg")):
        epoch = best["best_epochs"][task]
        values = [
            float(row[f"valid_{name}"]) for row in rows if row["phase"] == "select" and int(row["epoch"]) == epoch
        ]
        assert not values or values[0] == pytest.approx(best["figures"][name], abs=1e-5)
    done = CliRunner().invoke(app, [*map(str, words[:4]), "--run", str(tmp_path / "b"), "--epochs", "1"])  # a flag wins
    assert done.exit_code == 0, done.output
    assert len((tmp_path / "b" / "history.csv").read_text().splitlines()) <= 3


SETTINGS = ["--dim", "12", "--head", "4", "--own-vector", "3", "--tuned", "learning-rate,l2"]


def command(checkerboard: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "amzrec", "tune", str(checkerboard), "--out", str(out), *SETTINGS, *words]


@pytest.mark.long
def test_a_killed_process_leaves_a_trial_that_the_next_one_ends_and_does_not_count(
    checkerboard: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tune"
    with subprocess.Popen(
        command(checkerboard, out, "--epochs", "5000", "--patience", "5000", "--trials", "9")
    ) as begun:
        deadline = time.monotonic() + 200
        while not epochs_of(out / "study.db"):
            assert begun.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        begun.send_signal(signal.SIGKILL)
    assert list(out.glob(".study.*.lock"))
    words = ["--epochs", "5000", "--patience", "5000", "--minutes", "0.001"]
    done = subprocess.run(command(checkerboard, out, *words), capture_output=True, text=True, timeout=200)
    assert "was finished in time" in done.stderr
    assert not list(out.glob(".study.*.lock"))
    with contextlib.closing(sqlite3.connect(out / "study.db")) as connection:
        states = connection.execute("SELECT state FROM trials ORDER BY number").fetchall()
    assert states[0] == ("FAIL",)


def epochs_of(file: Path) -> int:
    """How many trials have told an epoch."""
    if not file.exists():
        return 0
    with contextlib.closing(sqlite3.connect(file)) as connection, contextlib.suppress(sqlite3.OperationalError):
        query = "SELECT count(*) FROM trial_user_attributes WHERE key = 'epochs'"
        return int(connection.execute(query).fetchone()[0])
    return 0


@pytest.mark.long
def test_several_processes_share_the_trials_of_one_study(checkerboard: Path, tmp_path: Path) -> None:
    # so many that on a busy machine the process that begins first is not through before the other one begins
    words = command(checkerboard, tmp_path / "tune", "--epochs", "2", "--trials", "12", "--workers", "2", "--json")
    done = subprocess.run(words, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 12 <= len(found["trials"]) <= 13  # two that look at the same time may both begin the last one
    assert {trial["state"] for trial in found["trials"]} == {"complete"}
    with contextlib.closing(sqlite3.connect(tmp_path / "tune" / "study.db")) as connection:
        query = "SELECT DISTINCT value_json FROM trial_user_attributes WHERE key = 'owner'"
        assert len(connection.execute(query).fetchall()) == 2
    assert sum("trial 0 (the defaults)" in line for line in done.stderr.splitlines()) >= 1


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with servers.postgresql() as url:
        yield url


@pytest.mark.long
@pytest.mark.usefixtures("untrained")
def test_a_study_in_postgresql_is_gone_on_with_and_its_password_is_not_shown(
    server: str, checkerboard: Path, tmp_path: Path
) -> None:
    pytest.importorskip("psycopg")
    for trials in (2, 5):
        out = tmp_path / f"t{trials}"  # another folder, the same study
        found = amzrec.tune(checkerboard, SMALL, trials=trials, tuned=["l2"], study=server, out=out)
        assert len(found["trials"]) == trials
        assert not (out / "study.db").exists()
    assert (tmp_path / "t5" / "recipe.json").exists()
    wrong = server.replace("amz:", "amz:not-")
    with pytest.raises(AmzrecError, match=r"the study .*\*\*\*.* cannot be used.*Finished trials are kept") as told:
        amzrec.tune(checkerboard, SMALL, trials=2, study=wrong, out=tmp_path / "wrong")
    assert "not-" not in str(told.value)


def test_what_all_processes_say_when_they_fail_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = work.Job(str(tmp_path / "gone"), {}, [], "sqlite:///none.db", "s", str(tmp_path / "study"), 1, None)
    with pytest.raises(AmzrecError, match=r"gone.*amzrec prepare"):
        list(work.work_together(job, 2))
