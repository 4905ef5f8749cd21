"""A plan counts what training then builds, and a training that memory cannot hold does not begin."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from amzrec.cli import plans
from amzrec.cli.app import app
from amzrec.commands import plan as plan_module
from amzrec.commands import train as train_module
from amzrec.commands.plan import plan
from amzrec.errors import AmzrecError
from amzrec.features.batches import plan_epoch
from amzrec.features.fitted import fit_reviews
from amzrec.model import optimizer
from amzrec.planning import memory
from amzrec.planning.calibration import EACH, Calibration, sample_of, seconds_of, total_of
from amzrec.planning.machine import memory_available
from amzrec.planning.memory import memory_of
from amzrec.planning.parameters import parameters_of
from amzrec.planning.report import changes_of, check_fits
from amzrec.planning.sizes import sizes_of, step_sizes
from amzrec.training import learner, watch
from amzrec.training.learner import Learner
from fits import dataset_of, random_reviews, recipe_of, reviews_of

SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "no hidden layer": {"head": ()},
    "every row has a vector": {"own_vector": 1},
    "rating alone": {"retrieval_weight": 0.0},
    "no shared dimensions": {"overlap": False},
    "last products": {"history": "recent"},
    "sequence": {"history": "sequence"},
    "ids": {"features": "ids", "head": (5, 4)},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_the_numbers_that_are_learned_are_those_of_the_model(settings: dict[str, Any]) -> None:
    dataset = dataset_of(random_reviews(), reviews_of([(1, 8, 3.0), (12, 3, 4.0)], [5.0, 9.0]))
    recipe = recipe_of(dataset, refit=False, **settings)
    (phase,) = sizes_of(dataset, recipe).phases.values()
    fitted = fit_reviews(dataset, dataset.train, recipe)
    model = Learner(recipe, fitted, dataset).model
    built = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert sum(parameters_of(phase, recipe).values()) == built
    assert (phase.batch, phase.steps) == plan_epoch(fitted, recipe)[:2]


def test_a_step_reads_about_what_steps_that_are_drawn_read() -> None:
    rng = np.random.default_rng(0)
    rows = [(int(c), int(p), 4.0) for c, p in zip(rng.integers(1, 12, 300), rng.integers(1, 9, 300), strict=True)]
    dataset = dataset_of(reviews_of(rows))
    recipe = recipe_of(dataset, own_vector=1, batch_size=30, negatives="batch", refit=False)
    sizes = sizes_of(dataset, recipe)
    (phase,) = sizes.phases.values()
    step, train = step_sizes(sizes, phase, recipe), dataset.train
    drawn = [rng.choice(len(train), phase.batch, replace=False) for _ in range(300)]
    for name, found, entries in zip(("customer", "product"), step[:2], step.entries, strict=True):
        of_each = getattr(train, name)
        counts = np.bincount(of_each)
        distinct = [np.unique(of_each[some]) for some in drawn]
        assert found == pytest.approx(np.mean([len(some) for some in distinct]), abs=1)
        assert entries == pytest.approx(np.mean([counts[some].sum() for some in distinct]), rel=0.05)


def test_memory_grows_with_what_there_is_more_of_and_settings_that_take_less_are_named() -> None:
    dataset = dataset_of(random_reviews())
    recipe = recipe_of(dataset, dim=960, own_vector=1)
    takes = [memory_of(sizes_of(dataset, one), one) for one in (recipe, recipe.replace(dim=1920))]
    assert takes[0].training < takes[1].training
    assert takes[0].run < takes[1].run
    recipe = recipe.replace(dim=96_000)
    now = memory_of(sizes_of(dataset, recipe), recipe).training
    changes = changes_of(dataset, recipe, now)
    assert {"dim"} <= {change["setting"] for change in changes}
    assert all(change["training"] < now for change in changes)
    with pytest.raises(
        AmzrecError, match=r"takes about .* GB of memory, and 1.0 GB are left here: .*--dim 48000.*--anyway"
    ):
        check_fits(dataset, recipe, 1_000_000_000)
    check_fits(dataset, recipe, None)
    check_fits(dataset, recipe, now)


def test_a_training_that_does_not_fit_does_not_begin_unless_it_is_told_to(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "memory_available", lambda: 300_000_000)
    monkeypatch.setattr(plan_module, "memory_available", lambda: 300_000_000)
    run = tmp_path / "run"
    done = CliRunner().invoke(app, ["train", str(checkerboard), "--run", str(run)])
    assert done.exit_code == 1
    assert "0.3 GB are left here" in done.stderr
    assert not list(tmp_path.iterdir()), "nothing was begun"
    monkeypatch.setattr(train_module, "Session", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # it begins
        train_module.train(checkerboard, run, anyway=True)
    document = plan(checkerboard, calibrate=False)
    assert not document["fits"]
    assert document["seconds"] is None
    assert "does not fit" in plans.planned(document)


def test_a_plan_without_calibration_counts_the_dataset(checkerboard: Path) -> None:
    done = CliRunner().invoke(
        app, ["plan", str(checkerboard), "--no-calibrate", "--json", "--epochs", "7", "--dim", "12"]
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["epochs"] == 7
    assert document["rows"].keys() == {"train", "valid", "test"}
    assert document["parameters"]["all"] == sum(
        document["parameters"][kind] for kind in ("customers", "products", "rest")
    )
    assert document["fits"]


def test_a_plan_counts_with_the_numbers_of_the_training() -> None:
    """It may not import them: a plan without calibration needs no TensorFlow."""
    assert (memory.READ, memory.AVERAGED, memory.JUDGES) == (learner.READ, optimizer.AVERAGED, watch.MOST)


def test_what_was_measured_on_a_sample_grows_to_the_whole() -> None:
    dataset = dataset_of(random_reviews())
    recipe = recipe_of(dataset, refit=False, epochs=3)
    sizes = sizes_of(dataset, recipe)
    found = Calibration(sizes, 1.0, 2.0, 3.0, 4.0, 0.5, 6.0, 8.0, 9.0, 7.0)
    stages = seconds_of(sizes, recipe, found)
    (steps,) = (phase.steps for phase in sizes.phases.values())
    label = "choosing epochs"
    assert stages["starting TensorFlow"] == 1
    assert stages[f"{label}: before the first epoch"] == pytest.approx(9)
    assert stages[f"{label}{EACH}"] == pytest.approx(0.5 * steps + 6)
    assert stages[f"{label}: all 3 epochs"] == pytest.approx(3 * (0.5 * steps + 6))
    assert stages["choosing what stands beside the towers"] == pytest.approx(17)
    assert total_of(stages) == pytest.approx(sum(stages.values()) - stages[f"{label}{EACH}"])
    few, many = (dataclasses.replace(sizes, judged=judged) for judged in (100, 10**6))  # of valid 20,000 are asked
    asked = seconds_of(many, recipe, found._replace(sizes=few))["choosing what stands beside the towers"]
    assert asked == pytest.approx(8 + 9 * 20_000 / 100)
    assert sample_of(dataset, 10**6, 1) is dataset
    some = sample_of(dataset, 20, 1)
    kept = set(some.train.customer)
    assert 0 < len(kept) < len(set(dataset.train.customer))
    assert len(some.train) == sum(customer in kept for customer in dataset.train.customer)


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files as the kernel shows them."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, 8000 * 1024),
        ({"groups/a/memory.max": "max", "groups/a/memory.current": "5"}, 8000 * 1024),
        ({"groups/a/memory.max": "7000", "groups/a/memory.current": "3000"}, 4000),
        (
            {
                "groups/a/b/memory.max": "7000",
                "groups/a/b/memory.current": "3000",
                "groups/a/b/memory.stat": "anon 1\ninactive_file 500\nactive_file 100",
            },
            4600,
        ),
        ({"groups/a/memory.max": "900", "groups/a/memory.current": "100", "groups/a/b/memory.max": "max"}, 800),
        (
            {
                "proc/self/cgroup": "5:cpu,memory:/a\n1:name=x:/a",
                "groups/memory/a/memory.limit_in_bytes": "600",
                "groups/memory/a/memory.usage_in_bytes": "100",
            },
            500,
        ),
    ],
    ids=["machine", "no limit", "limit", "caches are free", "limit of the group above", "version 1"],
)
def test_memory_is_what_the_machine_and_the_control_groups_leave(
    files: dict[str, str], left: int, tmp_path: Path
) -> None:
    write(
        tmp_path, {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:  8000 kB", "proc/self/cgroup": "0::/a/b"} | files
    )
    assert memory_available(tmp_path / "proc", tmp_path / "groups") == left


def test_a_system_that_does_not_say_how_much_memory_there_is_refuses_nothing(tmp_path: Path) -> None:
    assert memory_available(tmp_path, tmp_path) is None
