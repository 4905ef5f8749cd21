"""Spark as the engine, on one machine or a cluster; no Python runs on its workers."""

from __future__ import annotations

from pathlib import Path

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Engine


def connect(scratch: Path, config: PrepareConfig) -> Engine:
    """Connect to Spark, with `scratch` for its tables.

    Raises AmzrecError where pyspark or Java is not installed, and where Spark does not start.
    """
    try:
        from amzrec.reviews.engines.spark import engine, session
    except ImportError as error:
        raise AmzrecError(
            f"--engine spark needs pyspark, which is not installed here ({error}): pip install 'amzrec[spark]'; "
            "--engine duckdb needs nothing more"
        ) from error
    spark, owned = session.start(scratch, config.spark_master)
    engine.Ibis.register_options()
    return engine.Spark(engine.Ibis().connect(session=spark), scratch.absolute(), owned)
