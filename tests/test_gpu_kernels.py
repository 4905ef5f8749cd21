"""A training step stays on a GPU: each of its nodes has a kernel there, and no data go back to the host between them.

TensorFlow registers its GPU kernels on machines without a GPU as well, so this runs anywhere.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from amzrec.model.keras2 import import_tensorflow
from amzrec.model.optimizer import LazyAdam
from graph import OTHERS, STEPS, traced
from kernels import all_nodes, crossings, without_kernel

tf: Any = import_tensorflow()

SMALL = {  # what may go from the GPU to the host in a step, and why
    "Const(dtype=int64) → TensorListConcatV2": "an empty shape that TensorArray.concat is given",
}
SIZES = {  # single numbers
    "Greater(T=float) → StatelessIf": "whether the shares of a block of the softmax have lost digits",
    "Less(T=float) → If": "whether the sums of the averaged weights have to be scaled",
}
MOST = {
    "full": 1_400,
    "ids": 550,
    "sequence": 2_700,
    "recent": 1_600,
}  # amzrec 0.1.0 had about 4,100 and 930 of the first two


def kinds() -> list[Any]:
    """All kinds of steps; the two of plain towers are traced quickly."""
    marks = {name: pytest.mark.slow if name.startswith("ids") else pytest.mark.long for name in STEPS | OTHERS}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


@pytest.mark.parametrize("name", kinds())
def test_a_step_has_only_nodes_with_gpu_kernels_and_waits_for_no_data(name: str) -> None:
    function = traced(**(STEPS | OTHERS)[name])
    assert not without_kernel(function)
    arrays, numbers = crossings(function)
    assert set(arrays) <= set(SMALL)
    assert set(numbers) <= set(SIZES)
    # the host's tables of int32 would be sent to the GPU in every step
    assert tf.int32 not in {each.dtype for each in function.captured_inputs}
    if name in STEPS:
        assert sum(1 for _ in all_nodes(function)) <= MOST[name.split(",")[0]]


def test_every_kind_of_model_is_among_the_steps() -> None:
    every = [*STEPS.values(), *OTHERS.values()]
    chosen: dict[str, set[Any]] = {
        "features": {"ids"},
        "history": {"recent", "sequence"},
        "negatives": {"batch", "full"},
        "optimizer": {"adagrad"},
        "precision": {"bfloat16"},
        "rating_loss": {"pairwise-hinge", "pairwise-logistic", "listmle"},
        "retrieval_loss": {"dot"},
        "overlap": {False},
    }
    for setting, wanted in chosen.items():
        assert wanted <= {each.get(setting) for each in every}, setting
    for setting in ("compared", "history_budget", "hard_negatives"):
        assert any(each.get(setting) for each in every), setting


# --- what finds them


def concrete(function: Any, *signature: Any) -> Any:
    """A concrete function of tensors of these types."""
    return tf.function(function, input_signature=signature, autograph=False).get_concrete_function()


def vector(kind: Any) -> Any:
    """A vector of any length."""
    return tf.TensorSpec([None], kind)


def test_nodes_in_loops_and_branches_are_counted_and_looked_at() -> None:
    def add_up(x: Any) -> Any:
        return tf.while_loop(
            lambda i, _: i < 3,
            lambda i, x: (i + 1, tf.cond(x[0] > 0, lambda: tf.math.unsorted_segment_sum(x, x, 4), lambda: x)),
            (0, x),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])),
        )[1]

    function = concrete(add_up, vector(tf.int64))
    assert Counter(node.op for node in all_nodes(function))["UnsortedSegmentSum"] == 1
    assert without_kernel(function) == {"UnsortedSegmentSum(T=int64, Tindices=int64, Tnumsegments=int32)": 1}


def test_a_kernel_for_other_types_is_no_kernel_for_these() -> None:
    def add_up(x: Any) -> Any:
        return tf.math.unsorted_segment_sum(x, tf.zeros_like(x, tf.int64), 4)

    assert not without_kernel(concrete(add_up, vector(tf.float32)))
    assert without_kernel(concrete(add_up, vector(tf.int64)))


def test_data_that_are_made_on_the_gpu_and_read_by_the_host_are_found_and_shapes_are_none() -> None:
    def of_int32(x: Any) -> Any:
        return tf.concat([tf.cast(x * 2, tf.int32), [1]], 0)  # int32 is concatenated on the host

    def of_int64(x: Any) -> Any:
        return tf.concat([tf.cast(x * 2, tf.int64), [1]], 0)

    def shapes(x: Any) -> Any:
        return tf.zeros(tf.concat([tf.shape(x * 2), [1]], 0))

    arrays, _ = crossings(concrete(of_int32, vector(tf.float32)))
    assert list(arrays) == ["Cast(DstT=int32, SrcT=float) → ConcatV2"]
    for function in (of_int64, shapes):
        assert crossings(concrete(function, vector(tf.float32))) == (Counter(), Counter())


def test_a_number_that_the_data_decide_is_told_apart_from_arrays() -> None:
    arrays, numbers = crossings(concrete(lambda x: tf.range(tf.reduce_sum(x * 2)), vector(tf.int64)))
    assert not arrays
    assert "Sum(T=int64, Tidx=int32) → Range" in numbers


def test_a_further_table_adds_few_nodes_to_an_update() -> None:
    def nodes(tables: int) -> int:
        variables = [tf.Variable(np.zeros((5, 3), np.float32)) for _ in range(tables)]
        optimizer = LazyAdam(0.1, 0.9)
        optimizer.build(variables)

        def update(rows: Any) -> None:
            values = tf.zeros([tf.size(rows), 3])
            optimizer.apply_gradients([(tf.IndexedSlices(values, rows, [5, 3]), each) for each in variables])

        return sum(1 for _ in all_nodes(concrete(update, vector(tf.int64))))

    assert nodes(5) - nodes(4) <= 10  # 60 when each table had moments and an average of its own
