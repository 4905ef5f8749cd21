"""Rows taken from tables, and products with sparse matrices: values and gradients, and what they must not read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.model.keras2 import import_tensorflow
from amzrec.model.sparse import take

tf: Any = import_tensorflow()


@pytest.mark.parametrize("graph", [False, True])
def test_rows_taken_and_their_gradient_are_those_of_gather(graph: bool) -> None:
    table, rows = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), tf.constant([2, 0, 2])

    def both() -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            taken = take(table, rows)
            loss = tf.reduce_sum(taken * tf.constant([[1.0], [2.0], [3.0]]))
        return taken, tape.gradient(loss, table)

    taken, gradient = (tf.function(both) if graph else both)()
    np.testing.assert_array_equal(taken, [[5, 6], [1, 2], [5, 6]])
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_array_equal(gradient.indices, rows)
    np.testing.assert_array_equal(gradient.values, [[1, 1], [2, 2], [3, 3]])
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient), [[2, 2], [0, 0], [4, 4]])


def test_taking_rows_never_reads_the_whole_table() -> None:
    """A table whose rows are written one by one is copied when it is read: a second per 4 GB in each step."""
    table = tf.Variable(tf.zeros([3, 2]))

    @tf.function  # type: ignore[untyped-decorator]
    def step(rows: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(take(table, rows)))
        table.scatter_sub(tape.gradient(loss, table))

    nodes = step.get_concrete_function(tf.constant([0])).graph.as_graph_def().node
    assert "ReadVariableOp" not in {node.op for node in nodes}
