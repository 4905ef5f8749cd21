"""Lazy Adam with averaged weights: a step touches only the rows of its batch."""

from __future__ import annotations

from typing import Any

from amzrec.model.keras2 import import_tensorflow

tf: Any = import_tensorflow()


class LazyAdam(tf.keras.optimizers.Optimizer):  # type: ignore[misc]
    """Adam (Kingma & Ba 2015) whose moments move only for rows with a gradient, and an exact running average.

    `average` is the decay per step of the averaged weights (0: none). A row that no batch touches keeps its weight,
    so its average is brought up to date when it is next read: avg = w + (avg − w) · Π decay over the steps missed.
    The log of that product is what `_past` holds per row. The decay grows as (1 + t) / (10 + t) at the start.
    """

    def __init__(self, learning_rate: float, average: float = 0.0, beta_1: float = 0.9, beta_2: float = 0.99) -> None:
        # weight_decay=None: the base class's default of 0 is applied densely, at the cost of the whole table
        super().__init__(name="LazyAdam", weight_decay=None, jit_compile=False)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.average, self.beta_1, self.beta_2, self.epsilon = average, beta_1, beta_2, 1e-7

    def build(self, var_list: Any) -> None:
        """Make the slots: two moments, and the average with its age."""
        super().build(var_list)
        if hasattr(self, "_moments"):
            return
        self._moments = [self.add_variable_from_reference(v, "m") for v in var_list]
        self._squares = [self.add_variable_from_reference(v, "v") for v in var_list]
        self._averages, self._past = [], []
        self._log_decay = self.add_variable([], dtype=tf.float32, name="log_decay")
        if self.average:
            for v in var_list:
                self._averages.append(self.add_variable_from_reference(v, "avg", initial_value=v))
                rows = v.shape[:1] if v.shape.rank else []
                self._past.append(self.add_variable(rows, dtype=tf.float32, name=f"{v.name.split(':')[0]}_past"))

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def apply_gradients(self, grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
        """One step; the average's decay advances first."""
        pairs = list(grads_and_vars)
        with tf.init_scope():
            self.build([v for _, v in pairs])
        # the same for all variables: computed once, as each operation costs its microseconds
        step = tf.cast(self.iterations, tf.float32) + 1.0
        debias = tf.sqrt(1.0 - tf.pow(self.beta_2, step)) / (1.0 - tf.pow(self.beta_1, step))
        self._rate = tf.cast(self._learning_rate, tf.float32) * debias
        if self.average:
            self._last = tf.minimum(self.average, (1.0 + step) / (10.0 + step))
            self._log_decay.assign_add(tf.math.log(self._last))
            self._now = self._log_decay.read_value()
        return super().apply_gradients(pairs, *args, **kwargs)

    def update_step(self, gradient: Any, variable: Any) -> None:
        """Adam on all of a dense variable, or on the rows of an IndexedSlices gradient (deduplicated by Keras)."""
        number = self._index_dict[self._var_key(variable)]
        m, v = self._moments[number], self._squares[number]
        if isinstance(gradient, tf.IndexedSlices):
            rows, g = gradient.indices, gradient.values
            old = tf.gather(variable, rows)
            m_new = self.beta_1 * tf.gather(m, rows) + (1.0 - self.beta_1) * g
            v_new = self.beta_2 * tf.gather(v, rows) + (1.0 - self.beta_2) * tf.square(g)
            new = old - self._rate * m_new / (tf.sqrt(v_new) + self.epsilon)
            m.scatter_update(tf.IndexedSlices(m_new, rows))
            v.scatter_update(tf.IndexedSlices(v_new, rows))
            variable.scatter_update(tf.IndexedSlices(new, rows))
            if self.average:
                average, past = self._averages[number], self._past[number]
                # between its last touch and now the row had the weight `old`; the newest decay weighs `new`
                decay = tf.exp(self._now - tf.gather(past, rows)) / self._last
                decay = tf.reshape(decay, [-1] + [1] * (len(variable.shape) - 1))
                caught_up = old + decay * (tf.gather(average, rows) - old)
                average.scatter_update(tf.IndexedSlices(new + self._last * (caught_up - new), rows))
                past.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(rows), self._now), rows))
        else:
            m.assign(self.beta_1 * m + (1.0 - self.beta_1) * gradient)
            v.assign(self.beta_2 * v + (1.0 - self.beta_2) * tf.square(gradient))
            variable.assign_sub(self._rate * m / (tf.sqrt(v) + self.epsilon))
            if self.average:
                average, past = self._averages[number], self._past[number]
                average.assign(variable + self._last * (average - variable))
                past.assign(tf.fill(past.shape, self._now))

    def swap(self, variables: Any) -> None:
        """Exchange weights and averaged weights (brought up to date); a second call exchanges them back."""
        if not self.average or not hasattr(self, "_moments"):
            return
        for variable in variables:
            number = self._index_dict.get(self._var_key(variable))
            if number is None:
                continue
            average, past = self._averages[number], self._past[number]
            decay = tf.exp(self._log_decay - past)
            decay = tf.reshape(decay, decay.shape + [1] * (variable.shape.rank - past.shape.rank))
            caught_up = variable + decay * (average - variable)
            past.assign(tf.fill(past.shape, self._log_decay.read_value()))
            average.assign(variable)
            variable.assign(caught_up)

    def get_config(self) -> dict[str, Any]:
        """The settings, for Keras."""
        settings = {"learning_rate": float(self._learning_rate), "average": self.average}
        return settings | {"beta_1": self.beta_1, "beta_2": self.beta_2}
