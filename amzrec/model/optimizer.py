"""Lazy Adam with averaged weights: a step touches only the rows of its batch."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amzrec.model.keras2 import import_tensorflow
from amzrec.model.sparse import LARGE

tf: Any = import_tensorflow()
Tensor = Any
Variable = Any

BLOCK = 16_384  # touched rows of a LARGE table that are updated at a time: few enough to stay in the caches meanwhile
AVERAGED = 65_536  # rows of a table that are given their average at a time
FOLD = -50.0  # the log of the decay at which trails are scaled anew: exp(50) is far from what float32 can hold


class Place(NamedTuple):
    """Where the slots of a variable stand: in the table of its width, from row `start` on."""

    width: int
    start: int
    rows: int


class Touched(NamedTuple):
    """The rows of a variable that its gradient touches, each of them once."""

    variable: Variable
    rows: Tensor | None  # [n]; None: all, as the gradient is dense
    at: Tensor  # [n] where the slots of these rows stand in the table of their width
    gradient: Tensor  # [n, width]
    size: Tensor | int  # n

    @classmethod
    def by(cls, gradient: Any, variable: Variable, place: Place) -> Touched:
        """Find them from a dense gradient, or from an IndexedSlices, in which a row may be listed several times."""
        if not isinstance(gradient, tf.IndexedSlices):
            at = tf.constant(np.arange(place.start, place.start + place.rows), tf.int64)
            return cls(variable, None, at, as_table(gradient, place.width), place.rows)
        rows, which = tf.unique(tf.cast(gradient.indices, tf.int64), out_idx=tf.int64)
        size = tf.size(rows)
        summed = tf.math.unsorted_segment_sum(as_table(gradient.values, place.width), which, size)
        return cls(variable, rows, rows + place.start if place.start else rows, summed, size)

    def subtract(self, step: Tensor) -> None:
        """Subtract a step [n, width] from these rows of the variable."""
        shape = self.variable.shape
        if self.rows is None:
            self.variable.assign_sub(step if shape.rank == 2 else tf.reshape(step, shape))
            return
        # to read and write rows takes two thirds of the time of scatter_sub, which goes number by number
        step = step if shape.rank == 2 else tf.reshape(step, [-1, *shape[1:]])
        self.variable.scatter_update(tf.IndexedSlices(read(self.variable, self.rows) - step, self.rows))


class LazyAdam(tf.keras.optimizers.Optimizer):  # type: ignore[misc]
    """Adam (Kingma & Ba 2015) whose moments move only for rows with a gradient, with an exact average of the weights.

    Variables of one width are updated together, so that a step has few operations: the moments of all of them stand in
    one table, below each other; a vector or a number is a table of width 1.

    The average is a_t = d_t · a_{t−1} + (1 − d_t) · w_t, where d_t grows as (1 + t) / (10 + t) up to `average`
    (0: no average). Rows that a step does not touch keep their weight while their average goes on moving towards it,
    so what is kept is how far the average is from the weight. It changes by d_t · (gap + step), which makes it a sum
    over the steps that touched the row, the `trail`:

        a_t − w_t = D_t · Σ_s step_s / D_{s−1},   D_t = d_1 · d_2 · … · d_t

    For example, with d = 1/2 always and one weight that goes 8 → 6 → 6 (steps of 2 and 0):
        trail = 2 / 1 = 2, D = 1/2 and a = 6 + 1 = 7, which is 1/2 · 8 + 1/2 · 6
        trail = 2,         D = 1/4 and a = 6 + 1/2,   which is 1/2 · 7 + 1/2 · 6
    """

    def __init__(self, learning_rate: float, average: float = 0.0, beta_1: float = 0.9, beta_2: float = 0.99) -> None:
        # weight_decay=None: the base class's default of 0 is applied densely, at the cost of the whole table
        super().__init__(name="LazyAdam", weight_decay=None, jit_compile=False)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.average, self.beta_1, self.beta_2, self.epsilon = average, beta_1, beta_2, 1e-7

    def build(self, var_list: Any) -> None:
        """Make the slots of these variables: two moments each, and the trail where weights are averaged."""
        super().build(var_list)
        if hasattr(self, "_moments"):
            return
        places, sizes = [], dict.fromkeys((width_of(variable) for variable in var_list), 0)
        for variable in var_list:
            width = width_of(variable)
            rows = variable.shape.num_elements() // width
            places.append(Place(width, sizes[width], rows))
            sizes[width] += rows
        self._places, self._widths = self._no_dependency(places), self._no_dependency(list(sizes))
        self._moments = [self.add_variable([rows, width], name=f"m_{width}") for width, rows in sizes.items()]
        self._squares = [self.add_variable([rows, width], name=f"v_{width}") for width, rows in sizes.items()]
        trailed = sizes.items() if self.average else ()
        self._trails = [self.add_variable([rows, width], name=f"trail_{width}") for width, rows in trailed]
        self._log_decay = self.add_variable([], dtype=tf.float32, name="log_decay")

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def apply_gradients(self, grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
        """Update the variables whose gradients, dense or of rows (IndexedSlices), are not None."""
        return super().apply_gradients(grads_and_vars, *args, **kwargs)

    def _deduplicate_sparse_grad(self, grads: Any) -> Any:
        return grads  # each width does so for itself

    def _internal_apply_gradients(self, grads_and_vars: Any) -> Any:
        """Do a step on each device that holds a copy of the variables (one, unless a tf.distribute strategy says)."""
        merged = tf.__internal__.distribute.interim.maybe_merge_call
        return merged(self._on_each_device, self._distribution_strategy, grads_and_vars)

    def _on_each_device(self, strategy: Any, grads_and_vars: Any) -> Any:
        gradients, variables = zip(*grads_and_vars, strict=True)
        places = [self._places[self._index_dict[self._var_key(variable)]] for variable in variables]

        def step(_: Variable, *mine: Any) -> None:
            self._step(list(zip(mine, variables, places, strict=True)))

        strategy.extended.update(self._log_decay, step, args=gradients, group=False)
        return self.iterations.assign_add(1)

    def _step(self, updates: list[tuple[Any, Variable, Place]]) -> None:
        """Advance the decay of the average, then update the variables: (gradient, variable, place) of each.

        Those of small tables width by width; LARGE ones one after the other, in blocks.
        """
        number = tf.cast(self.iterations, tf.float32) + 1.0
        debias = tf.sqrt(1.0 - tf.pow(self.beta_2, number)) / (1.0 - tf.pow(self.beta_1, number))
        self._rate = tf.cast(self._learning_rate, tf.float32) * debias
        # constants that all widths share: each number in a formula would be a node of its own
        self._betas = [tf.constant(x) for beta in (self.beta_1, self.beta_2) for x in (beta, 1.0 - beta)]
        self._tiny = tf.constant(self.epsilon)
        if self.average:
            tf.cond(self._log_decay < FOLD, self._fold, lambda: None)
            self._scale = tf.exp(-self._log_decay)
            self._log_decay.assign_add(tf.math.log(tf.minimum(self.average, (1.0 + number) / (10.0 + number))))
        large = [each for each in updates if each[2].rows > LARGE and isinstance(each[0], tf.IndexedSlices)]
        small = [Touched.by(*each) for each in updates if not any(each is one for one in large)]
        for slot, width in enumerate(self._widths):
            if mine := [each for each in small if width_of(each.variable) == width]:
                self._update(slot, mine)
        done: list[Tensor] = []
        for each in large:
            with tf.control_dependencies(done):
                done = [self._update_in_blocks(self._widths.index(each[2].width), Touched.by(*each))]

    def _update_in_blocks(self, slot: int, touched: Touched) -> Tensor:
        """Do what `_update` does on the touched rows of one variable, BLOCK of them at a time."""

        def update(begin: Tensor) -> list[Tensor]:
            end = tf.minimum(begin + BLOCK, touched.size)
            assert touched.rows is not None
            rows, at, gradient = (part[begin:end] for part in (touched.rows, touched.at, touched.gradient))
            self._update(slot, [Touched(touched.variable, rows, at, gradient, end - begin)])
            return [end]

        return tf.while_loop(lambda begin: begin < touched.size, update, [tf.constant(0)], parallel_iterations=1)[0]

    def _update(self, slot: int, touched: list[Touched]) -> None:
        """Do a step of Adam on all variables of one width.

        1. Read the moments of the touched rows, [n, width], from the table in which they stand; mix in the gradients.
        2. Write them back, and add the step to the trail.
        3. Subtract from each variable its part of the step.
        """
        at, gradient = below([each.at for each in touched]), below([each.gradient for each in touched])
        moments, squares = self._moments[slot], self._squares[slot]
        moment = self._betas[0] * read(moments, at) + self._betas[1] * gradient
        square = self._betas[2] * read(squares, at) + self._betas[3] * tf.square(gradient)
        step = self._rate * moment / (tf.sqrt(square) + self._tiny)
        moments.scatter_update(tf.IndexedSlices(moment, at))
        squares.scatter_update(tf.IndexedSlices(square, at))
        if self.average:
            trails = self._trails[slot]
            trails.scatter_update(tf.IndexedSlices(read(trails, at) + self._scale * step, at))
        parts = tf.split(step, [each.size for each in touched]) if len(touched) > 1 else [step]
        for each, part in zip(touched, parts, strict=True):
            each.subtract(part)

    def _fold(self) -> None:
        """Scale the trails to a decay of 1. A pass over all rows, but only once in some 1,600 steps at 0.97."""
        decay = tf.exp(self._log_decay)
        for trail in self._trails:
            trail.assign(trail * decay)
        self._log_decay.assign(0.0)

    def slots(self, variable: Variable) -> Iterator[tuple[str, Any]]:
        """Yield the slots of a variable by name, [rows, width] each, as `put_slots` reads them.

        "moment", "root", which is the square root of the second moment, and where weights are averaged "gap", which is
        how far the average is from the weight.
        """
        width, start, rows = self._places[self._index_dict[self._var_key(variable)]]
        slot, part = self._widths.index(width), slice(start, start + rows)
        yield "moment", self._moments[slot][part].numpy()
        yield "root", np.sqrt(self._squares[slot][part].numpy())
        if self.average:
            yield "gap", self._trails[slot][part].numpy() * np.exp(self._log_decay.numpy())

    def put_slots(self, variable: Variable, slots: Mapping[str, Any]) -> None:
        """Set the slots of a variable to what `slots` yielded; for all variables, or for none of them."""
        width, start, rows = self._places[self._index_dict[self._var_key(variable)]]
        slot, part = self._widths.index(width), slice(start, start + rows)
        self._moments[slot][part].assign(slots["moment"])
        self._squares[slot][part].assign(np.square(slots["root"]))
        if self.average:
            self._log_decay.assign(0.0)
            self._trails[slot][part].assign(slots["gap"] if "gap" in slots else np.zeros([rows, width], np.float32))

    @contextlib.contextmanager
    def averaged(self, variables: Iterable[Variable], scratch: Path | None = None) -> Iterator[None]:
        """Let the variables hold their averaged weights inside the block; after it they are as before, to the bit.

        Meanwhile the weights of large tables lie in a file without a name in the folder `scratch`, where one is given;
        raises OSError where they cannot be written.
        """
        with contextlib.ExitStack() as kept:
            for variable in variables if self.average and hasattr(self, "_moments") else ():
                if self._var_key(variable) not in self._index_dict:
                    continue
                width, start, rows = self._places[self._index_dict[self._var_key(variable)]]
                trail, decay = self._trails[self._widths.index(width)], tf.exp(self._log_decay)
                large = (
                    rows > AVERAGED and len(variable.shape) == 2 and not hasattr(variable, "values")
                )  # on one device
                if large and scratch is not None:
                    file = kept.enter_context(tempfile.TemporaryFile(dir=scratch))
                    for some in blocks_of(rows):
                        read(variable, some).numpy().tofile(file)
                    kept.callback(read_back, variable, file)
                else:
                    kept.callback(variable.assign, variable.read_value())
                if not large:
                    variable.assign_add(tf.reshape(trail[start : start + rows] * decay, variable.shape))
                for some in blocks_of(rows) if large else ():
                    variable.scatter_add(tf.IndexedSlices(read(trail, start + some) * decay, some))
            yield

    def get_config(self) -> dict[str, Any]:
        """The settings, for Keras."""
        settings = {"learning_rate": float(self._learning_rate), "average": self.average}
        return settings | {"beta_1": self.beta_1, "beta_2": self.beta_2}


class Adagrad(tf.keras.optimizers.Adagrad):  # type: ignore[misc]
    """Adagrad (Duchi et al. 2011) as Keras has it, whose slots can be taken and put back."""

    def slots(self, variable: Variable) -> Iterator[tuple[str, Any]]:
        """Yield the slots of a variable, [rows, width]: "root", the square root of the sum of squared gradients."""
        found = self._accumulators[self._index_dict[self._var_key(variable)]].numpy()
        yield "root", np.sqrt(found).reshape(-1, width_of(variable))

    def put_slots(self, variable: Variable, slots: Mapping[str, Any]) -> None:
        """Set the slots of a variable to what `slots` yielded."""
        slot = self._accumulators[self._index_dict[self._var_key(variable)]]
        slot.assign(np.square(slots["root"]).reshape(slot.shape))


def blocks_of(rows: int) -> Iterator[Tensor]:
    """Cut the rows of a large table into blocks."""
    for begin in range(0, rows, AVERAGED):
        yield tf.range(begin, min(begin + AVERAGED, rows))


def read_back(variable: Variable, file: Any) -> None:
    """Give a table the weights that a file holds."""
    file.seek(0)
    for some in blocks_of(variable.shape[0]):
        values = np.fromfile(file, np.float32, len(some) * variable.shape[1])
        variable.scatter_update(tf.IndexedSlices(tf.constant(values.reshape(len(some), -1)), some))


def width_of(variable: Variable) -> int:
    """How many numbers a row of a variable has: 1 for a vector and for a single number."""
    return math.prod(variable.shape[1:])


def as_table(values: Tensor, width: int) -> Tensor:
    """Values of any shape as rows [n, width]."""
    return values if len(values.shape) == 2 else tf.reshape(values, [-1, width])


def below(parts: list[Tensor]) -> Tensor:
    """The parts below each other."""
    return tf.concat(parts, 0) if len(parts) > 1 else parts[0]


def read(table: Variable, rows: Tensor) -> Tensor:
    """Rows of a table as they are now; unlike tf.gather without a copy of them for the gradient tape."""
    return tf.raw_ops.ResourceGather(resource=table.handle, indices=rows, dtype=table.dtype)
