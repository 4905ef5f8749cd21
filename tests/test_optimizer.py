"""Lazy Adam: Adam where every row is touched, nothing elsewhere, and the average of all rows at every step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.model.keras2 import import_tensorflow
from amzrec.model.optimizer import LazyAdam

tf: Any = import_tensorflow()


def lists(rows: list[int], value: float = 1.0) -> Any:
    """A sparse gradient that is `value` · (1, 2) in these rows of a [4, 2] table."""
    values = tf.ones([len(rows), 1]) * tf.constant([[value, 2 * value]], tf.float32)
    return tf.IndexedSlices(values, tf.constant(rows, tf.int64), dense_shape=tf.constant([4, 2], tf.int64))


def table() -> Any:
    """A [4, 2] variable."""
    return tf.Variable(np.arange(8, dtype=np.float32).reshape(4, 2) / 8, name="table")


def warm_up(step: int, average: float) -> float:
    """The documented decay of step 1, 2, …: (1 + t) / (10 + t), at most `average`."""
    return min(average, (1 + step) / (10 + step))


@pytest.mark.parametrize("sparse", [False, True])
def test_it_is_adam_when_every_row_is_touched_in_every_step(sparse: bool) -> None:
    ours, known = table(), table()
    lazy = LazyAdam(0.1, average=0.9)
    adam = tf.keras.optimizers.Adam(0.1, beta_1=0.9, beta_2=0.99, epsilon=1e-7, jit_compile=False)
    for step in range(7):
        dense = tf.constant(np.random.default_rng(step).normal(size=(4, 2)), tf.float32)
        slices = tf.IndexedSlices(tf.gather(dense, [2, 0, 3, 1]), tf.constant([2, 0, 3, 1]), tf.constant([4, 2]))
        lazy.apply_gradients([(slices if sparse else dense, ours)])
        adam.apply_gradients([(dense, known)])
    np.testing.assert_allclose(ours, known, atol=1e-6)


def test_a_row_that_is_listed_twice_moves_by_the_sum_of_its_gradients() -> None:
    once, twice = table(), table()
    LazyAdam(0.1).apply_gradients([(lists([1], 2.0), once)])
    LazyAdam(0.1).apply_gradients([(lists([1, 1]), twice)])
    np.testing.assert_allclose(twice, once, atol=1e-7)


def test_rows_without_a_gradient_keep_their_weights_and_moments() -> None:
    variable, start = table(), table().numpy()
    optimizer = LazyAdam(0.1)
    optimizer.apply_gradients([(lists([0, 1, 2, 3]), variable)])
    before = variable.numpy(), optimizer._moments[0].numpy(), optimizer._squares[0].numpy()
    for _ in range(5):
        optimizer.apply_gradients([(lists([1]), variable)])
    after = variable.numpy(), optimizer._moments[0].numpy(), optimizer._squares[0].numpy()
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[[0, 2, 3]], old[[0, 2, 3]])
        assert (new[1] != old[1]).all()
    assert (variable.numpy() != start).all()


@pytest.mark.parametrize("average", [0.3, 0.97])
def test_the_average_is_that_of_all_rows_at_every_step_touched_or_not(average: float) -> None:
    rng = np.random.default_rng(3)
    variable, number = table(), tf.Variable(1.0)
    optimizer = LazyAdam(0.05, average)
    naive, naive_number = variable.numpy(), 1.0
    for step in range(1, 41):
        rows = sorted(rng.choice(4, rng.integers(0, 3), replace=False).tolist())  # also steps that touch none
        gradients = [(lists(rows, float(rng.normal())), variable), (tf.constant(rng.normal(), tf.float32), number)]
        optimizer.apply_gradients(gradients)
        decay = warm_up(step, average)
        naive = decay * naive + (1 - decay) * variable.numpy()
        naive_number = decay * naive_number + (1 - decay) * float(number)
        if step in (1, 7, 40):  # looking at it changes nothing that follows
            with optimizer.averaged([variable, number]):
                np.testing.assert_allclose(variable, naive, atol=2e-6)
                assert float(number) == pytest.approx(naive_number, abs=2e-6)


def test_the_decay_of_the_first_step_is_two_elevenths() -> None:
    variable = tf.Variable(np.zeros(1, np.float32))
    optimizer = LazyAdam(1.0, 0.97)
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])  # Adam's first step is the learning rate: 0 → −1
    with optimizer.averaged([variable]):
        assert float(variable[0]) == pytest.approx(-9 / 11, abs=1e-5)


def test_the_average_outlives_the_scaling_of_its_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, 0.5 to the power of 300 would be 0 in float32, and its inverse infinite."""
    variable, optimizer, rng = table(), LazyAdam(0.05, 0.5), np.random.default_rng(4)
    step = tf.function(lambda g, r: optimizer.apply_gradients([(tf.IndexedSlices(g, r, [4, 2]), variable)]))
    naive = variable.numpy()
    for number in range(1, 301):
        rows = tf.constant([number % 3])  # the last row is never touched
        step(tf.constant(rng.normal(size=(1, 2)), tf.float32), rows)
        naive = warm_up(number, 0.5) * naive + (1 - warm_up(number, 0.5)) * variable.numpy()
    assert -100 < float(optimizer._log_decay) <= 0
    with optimizer.averaged([variable]):
        np.testing.assert_allclose(variable, naive, atol=2e-6)


def test_inside_the_block_are_the_averages_and_after_it_the_weights_to_the_bit_whatever_happened_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variable = table()
    optimizer = LazyAdam(0.1, 0.9)
    for rows in ([0, 1], [1, 2]):
        optimizer.apply_gradients([(lists(rows), variable)])
    weights = variable.numpy()
    with optimizer.averaged([variable]):
        averaged = variable.numpy()
    assert np.abs(averaged[1] - weights[1]).max() > 1e-3
    np.testing.assert_array_equal(averaged[3], weights[3])  # never touched
    np.testing.assert_array_equal(variable, weights)
    with pytest.raises(ZeroDivisionError), optimizer.averaged([variable]):
        raise ZeroDivisionError
    np.testing.assert_array_equal(variable, weights)
    for at_once in (65_536, 3, 1):
        monkeypatch.setattr("amzrec.model.optimizer.AVERAGED", at_once)
        for scratch in (None, tmp_path):
            with optimizer.averaged([variable], scratch):
                np.testing.assert_array_equal(variable, averaged)
            np.testing.assert_array_equal(variable, weights)
    with pytest.raises(FileNotFoundError), optimizer.averaged([tf.Variable(1.0), variable], tmp_path / "none"):
        raise AssertionError
    np.testing.assert_array_equal(variable, weights)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_before_the_first_step_or_without_an_average_the_averages_are_the_weights(average: float) -> None:
    variable, optimizer = table(), LazyAdam(0.1, average)
    with optimizer.averaged([variable]):
        np.testing.assert_array_equal(variable, table())
    optimizer.build([variable])
    with optimizer.averaged([variable]):
        np.testing.assert_array_equal(variable, table())


SHAPES = ((4, 2), (3, 2), (5, 1), (6,), (), (2, 2, 2), (2, 4))  # rows of 2, 1 and 4 numbers


def test_variables_of_all_shapes_take_the_steps_of_adam_though_their_moments_stand_in_one_table() -> None:
    rng = np.random.default_rng(1)
    starts = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]
    ours, known = ([tf.Variable(start) for start in starts] for _ in range(2))
    lazy = LazyAdam(0.1, average=0.5)
    adam = tf.keras.optimizers.Adam(0.1, beta_1=0.9, beta_2=0.99, epsilon=1e-7, jit_compile=False)
    naive = [start.copy() for start in starts]
    for number in range(1, 5):
        dense = [tf.constant(rng.normal(size=shape), tf.float32) for shape in SHAPES]
        rows = [tf.constant(rng.permutation(shape[0])) if shape else None for shape in SHAPES]
        slices = [
            tf.IndexedSlices(tf.gather(each, mine), mine, each.shape) if place in (0, 2, 3, 5) else each
            for place, (each, mine) in enumerate(zip(dense, rows, strict=True))
        ]
        lazy.apply_gradients(zip(slices, ours, strict=True))
        adam.apply_gradients(zip(dense, known, strict=True))
        decay = warm_up(number, 0.5)
        naive = [decay * old + (1 - decay) * v.numpy() for old, v in zip(naive, ours, strict=True)]
    for mine, other in zip(ours, known, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)
    with lazy.averaged(ours):
        for mine, other in zip(ours, naive, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-6)


def test_a_variable_without_a_gradient_stays_where_it_is() -> None:
    moved, still = table(), table()
    optimizer = LazyAdam(0.1, 0.9)
    for _ in range(3):
        optimizer.apply_gradients([(lists([0, 1, 2, 3]), moved), (None, still)])
    assert (moved.numpy() != table().numpy()).all()
    with optimizer.averaged([moved, still]):
        np.testing.assert_array_equal(still, table())


def test_no_weight_decay_is_applied_because_it_would_touch_the_whole_table() -> None:
    assert LazyAdam(0.1).weight_decay is None


def test_it_goes_on_from_a_checkpoint_as_if_never_interrupted(tmp_path: Any) -> None:
    def step(optimizer: Any, variable: Any, seed: int) -> None:
        optimizer.apply_gradients([(lists([seed % 4, 3], float(seed)), variable)])

    whole = LazyAdam(0.1, 0.9), table()
    for seed in range(1, 7):
        step(*whole, seed)
    parts = LazyAdam(0.1, 0.9), table()
    for seed in range(1, 4):
        step(*parts, seed)
    tf.train.Checkpoint(optimizer=parts[0], variable=parts[1]).write(str(tmp_path / "c"))
    again = LazyAdam(0.1, 0.9), table()
    again[0].build([again[1]])
    tf.train.Checkpoint(optimizer=again[0], variable=again[1]).read(str(tmp_path / "c")).assert_consumed()
    for seed in range(4, 7):
        step(*again, seed)
    np.testing.assert_array_equal(again[1], whole[1])
    with again[0].averaged([again[1]]), whole[0].averaged([whole[1]]):
        np.testing.assert_array_equal(again[1], whole[1])


TWO_DEVICES = """
from amzrec.model.keras2 import import_tensorflow
tf = import_tensorflow()
from amzrec.model.optimizer import LazyAdam
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
found = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        table, weight, optimizer = tf.Variable([[1.0, 2.0]] * 6), tf.Variable([1.0, 2.0]), LazyAdam(0.1, 0.9)
        optimizer.build([table, weight])

    @tf.function
    def step(rows):
        def one(mine):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.gather(table, mine) * weight)
            optimizer.apply_gradients(zip(tape.gradient(loss, [table, weight]), [table, weight]))
        strategy.run(one, args=(rows,))

    for number in range(4):
        rows = [number, 2, 3, number]
        number_of = strategy.num_replicas_in_sync
        parts = [tf.constant(rows[i::number_of]) for i in range(number_of)]
        step(strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]) if number_of > 1 else parts[0])
    with optimizer.averaged([table, weight]):
        found.append([table.numpy(), weight.numpy()])
print(max(abs(one - two).max() for one, two in zip(*found)), abs(found[0][0] - [1.0, 2.0]).max())
"""


@pytest.mark.long
def test_two_devices_with_half_of_the_batch_each_take_the_steps_of_one() -> None:
    run = subprocess.run([sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    apart, moved = map(float, run.stdout.split()[-2:])
    assert apart < 1e-6
    assert moved > 0.1


@pytest.mark.parametrize("in_graph", [False, True])
def test_large_tables_are_updated_in_blocks_as_small_ones_are_at_once(
    in_graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for large, block in ((40, 16_384), (29, 3)):
        monkeypatch.setattr("amzrec.model.optimizer.LARGE", large)
        monkeypatch.setattr("amzrec.model.optimizer.BLOCK", block)
        rng = np.random.default_rng(0)
        variables = [
            tf.Variable(rng.normal(size=shape).astype(np.float32)) for shape in ((40, 2), (2, 2), (30, 2), (9,))
        ]
        optimizer = LazyAdam(0.1, average=0.9)
        optimizer.build(variables)

        def step(*gradients: Any, optimizer: Any = optimizer, variables: Any = variables) -> None:
            optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))

        run = tf.function(step) if in_graph else step
        for _ in range(6):
            gradients = []
            for variable in variables:
                rows = rng.integers(0, variable.shape[0], 11)
                values = rng.normal(size=(11, *variable.shape[1:])).astype(np.float32)
                gradients.append(tf.IndexedSlices(tf.constant(values), tf.constant(rows), tf.constant(variable.shape)))
            run(*gradients)
        with optimizer.averaged(variables):
            found.append([variable.numpy() for variable in variables])
        found[-1] += [variable.numpy() for variable in (*variables, *optimizer._moments, *optimizer._squares)]
    for at_once, in_blocks in zip(*found, strict=True):
        np.testing.assert_array_equal(at_once, in_blocks)
