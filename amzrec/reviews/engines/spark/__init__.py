"""Spark as the engine, on one machine or a cluster; no Python runs on its workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Engine


def connect(scratch: Path, config: PrepareConfig) -> Engine:
    """Connect to Spark, with `scratch` for its tables.

    Raises AmzrecError where pyspark or Java is not installed, and where Spark does not start.
    """
    with installed():
        from amzrec.reviews.engines.spark import engine
    session, owned = start(scratch, config.spark_master)
    engine.Ibis.register_options()
    return engine.Spark(engine.Ibis().connect(session=session), scratch.absolute(), owned)


def start(scratch: Path, master: str | None) -> tuple[Any, bool]:
    """Return a Spark session, and whether it is ours to stop; see session.start. Raises AmzrecError as `connect`."""
    with installed():
        from amzrec.reviews.engines.spark import session
    return session.start(scratch, master)


@contextmanager
def installed() -> Iterator[None]:
    """Turn the import of a package that is not there into an AmzrecError."""
    try:
        yield
    except ImportError as error:
        raise AmzrecError(
            f"--engine spark needs pyspark, which is not installed here ({error}): pip install 'amzrec[spark]'; "
            "without --engine spark nothing more is needed"
        ) from error
