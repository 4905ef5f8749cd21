"""TensorFlow and TensorFlow Recommenders, imported the one way in which they fit together."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from amzrec.answers.scann import avx2
from amzrec.errors import AmzrecError

Tensor = Any  # a tensor or variable of TensorFlow, which has no types that mypy reads
FLAG = "TF_USE_LEGACY_KERAS"  # tensorflow-recommenders 0.7 is written for Keras 2, which tf-keras still provides
ON = ("1", "true", "True")  # the values that TensorFlow accepts
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR"}  # 2 still prints "failed call to cuInit" without GPU


def import_tensorflow() -> Any:
    """Import TensorFlow with Keras 2 behind `tf.keras` and without its log lines, and return the module.

    Raises AmzrecError where it is not installed, or where it was imported before with Keras 3: that choice is made
    at its first import and cannot be taken back.
    """
    if "tensorflow" not in sys.modules:
        os.environ[FLAG] = "1"
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
    try:
        import tensorflow as tf

        version = getattr(tf.keras, "version", None)  # a function in Keras 3, absent in Keras 2
    except ImportError as error:
        raise AmzrecError(
            f"TensorFlow with tf-keras cannot be imported ({error}): install amzrec again with its requirements "
            "(pip install amzrec), then see: amzrec doctor"
        ) from error
    if version is not None and str(version()).startswith("3."):
        raise AmzrecError(
            f"TensorFlow was imported before amzrec with Keras {version()}, but TensorFlow Recommenders needs Keras 2. "
            f"Restart Python (in a notebook: the kernel) and either import amzrec and train first, or begin with: "
            f'import os; os.environ["{FLAG}"] = "1"'
        )
    if os.environ.get(FLAG) not in ON:
        os.environ[FLAG] = "1"  # Keras 2 is what tf.keras is; processes started from here must agree
    return tf


@contextlib.contextmanager
def graphs_as_written() -> Iterator[None]:
    """Let TensorFlow run the graphs that are made in this block as they were written, without rewriting them first.

    Rewriting takes 2 of the 17 s until a first step and gains nothing: a step is products of matrices, which stay as
    they are (`LOG.md`). The setting is TensorFlow's own and holds for the whole process, so it is put back at the end.
    """
    optimizer, name = import_tensorflow().config.optimizer, "disable_meta_optimizer"
    before = optimizer.get_experimental_options().get(name, False)
    optimizer.set_experimental_options({name: True})
    try:
        yield
    finally:
        optimizer.set_experimental_options({name: before})


def import_tfrs() -> Any:
    """Import TensorFlow Recommenders, TensorFlow with Keras 2 before it, and return the module.

    It would import the scann package, which kills the process where the processor has no AVX2: there scann is hidden.
    Raises AmzrecError where either of them cannot be imported.
    """
    import_tensorflow()
    hide = not avx2() and "scann" not in sys.modules
    if hide:
        sys.modules["scann"] = None  # type: ignore[assignment]
    try:
        import tensorflow_recommenders as tfrs
    except ImportError as error:
        raise AmzrecError(
            f"TensorFlow Recommenders cannot be imported ({error}): its versions must fit together, see: amzrec doctor"
        ) from error
    finally:
        if hide:
            del sys.modules["scann"]
    return tfrs
