"""The engines that run the expressions: DuckDB inside the process, Spark on one machine or many."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Engine

HELPERS = ("protocol",)  # modules of this folder that are no engines


def names() -> list[str]:
    """List what --engine takes: the modules of this folder that are engines."""
    return [module.name for module in pkgutil.iter_modules(__path__) if module.name not in HELPERS]


def connect(scratch: Path, config: PrepareConfig | None = None) -> Engine:
    """Connect to the engine of --engine; tables that do not fit into memory lie in the folder `scratch`.

    Raises AmzrecError where there is no such engine, or it is not installed, or does not start.
    """
    config = config or PrepareConfig()
    if config.engine not in names():
        raise AmzrecError(f"--engine is {config.engine!r}; allowed: {' | '.join(names())}")
    engine: Engine = importlib.import_module(f"{__name__}.{config.engine}").connect(scratch, config)
    return engine
