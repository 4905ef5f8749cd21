"""The study: trials in SQLite or PostgreSQL by Optuna, shared by processes, left in order by those that were killed."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import sqlite3
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from amzrec.errors import AmzrecError
from amzrec.reviews.sources.address import masked, parsed, scheme_of
from amzrec.store.locks import owner, taken_over
from amzrec.tuning.front import Objective, Tried
from amzrec.tuning.pruning import best

HEARTBEAT, GRACE = 30, 120  # seconds between two signs of life of a trial, and without one after which it is dead
UNNAMED = 600  # seconds after which a trial that does not say whose it is, is dead
TRIES = 4  # to open a study that other processes may be making right now
OWNER, PLACE, TOKEN, EPOCHS, FAILED, BEST, USUAL = "owner", "place", "token", "epochs", "failed", "best_epochs", "usual"


def address_of(study: str | None, file: Path) -> str:
    """Return the address of a study as SQLAlchemy has it: `study`, or the SQLite file beside the results.

    Raises AmzrecError for other databases, and for an SQLite file that is something else.
    """
    if study is None or scheme_of(study) == "sqlite":
        file = file if study is None else Path(study.partition(":///")[2])
        if file.name == "":
            raise AmzrecError(f"--study {study} names no file: write sqlite:///FILE")
        check_sqlite(file)
        return f"sqlite:///{file.absolute()}"
    if scheme_of(study) not in ("postgresql", "postgres"):
        raise AmzrecError(
            f"--study is {masked(study)!r}; allowed: postgresql://user:password@host/database, sqlite:///FILE"
        )
    url = parsed(study).url
    return f"postgresql+psycopg://{url.partition('://')[2]}"


def check_sqlite(file: Path) -> None:
    """Raise AmzrecError where a file is there that holds no study of Optuna."""
    if not file.exists() or not file.stat().st_size:
        return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file.absolute()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE name IN ('studies', 'trials')").fetchall()
    except sqlite3.Error:
        rows = []
    if len(rows) < 2:
        raise AmzrecError(f"{file} exists and holds no study, so nothing is written there: name another file")


@contextlib.contextmanager
def reached(address: str) -> Iterator[None]:
    """Turn what a database says when it fails into an AmzrecError without secrets."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error) as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
        known = parsed(address.replace("+psycopg", ""))
        raise AmzrecError(
            f"the study {known.shown} cannot be used: {known.hidden(said[0])}. Finished trials are kept: check the "
            "database, then type the same command again"
        ) from error


def open_study(address: str, name: str, objectives: Sequence[Objective]) -> Any:
    """Open the study of this name, made where there is none; AmzrecError where that cannot be."""
    try:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise AmzrecError(
            f"amzrec tune needs a package that is not installed here ({error}): pip install 'amzrec[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    patience = {"timeout": 60} if address.startswith("sqlite") else {"connect_timeout": 10}
    with warnings.catch_warnings(), reached(address):
        warnings.simplefilter("ignore")  # heartbeats are called experimental
        for attempt in range(TRIES):
            try:
                storage = optuna.storages.RDBStorage(
                    address,
                    engine_kwargs={"connect_args": patience, "pool_pre_ping": True},
                    heartbeat_interval=HEARTBEAT,
                    grace_period=GRACE,
                )
                directions: list[Any] = [objective.direction for objective in objectives]
                return optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError, optuna.exceptions.DuplicatedStudyError):
                if attempt == TRIES - 1:  # another process that makes the same tables is done by then
                    raise
                time.sleep(0.3 * (attempt + 1))
    raise AssertionError


def enqueue_usual(study: Any, settings: dict[str, Any]) -> None:
    """Let the defaults be tried first, unless that was done."""
    states = {trial.state.name for trial in study.get_trials(deepcopy=False) if trial.user_attrs.get(USUAL)}
    if not states & {"WAITING", "RUNNING", "COMPLETE", "PRUNED"}:
        study.enqueue_trial(settings, user_attrs={USUAL: True})


def bury(study: Any) -> None:
    """End the trials of processes that were killed, so that they count no longer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna

        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if is_dead(trial):
            with contextlib.suppress(Exception):  # another process was faster
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def is_dead(trial: Any) -> bool:
    """Tell whether the process of a running trial is known to be dead: of this machine, and its lock is not held."""
    told = trial.user_attrs
    if OWNER not in told:
        age = datetime.datetime.now() - (trial.datetime_start or datetime.datetime.now())
        return age.total_seconds() > UNNAMED
    here = owner().strip().rpartition(" ")[0]
    if told[OWNER].strip().rpartition(" ")[0] != here:
        return False  # of another machine: its heartbeat tells
    with taken_over(Path(told[PLACE]), told[TOKEN]) as dead:
        return dead


def counted(study: Any) -> int:
    """Count the trials that a budget counts: all but those that were interrupted or killed."""
    return sum(
        trial.state.name in ("COMPLETE", "PRUNED", "RUNNING") or FAILED in trial.user_attrs
        for trial in study.get_trials(deepcopy=False)
    )


def tried(study: Any, objectives: Sequence[Objective]) -> list[Tried]:
    """Return all trials that began, in order."""
    return [of_trial(t, objectives) for t in study.get_trials(deepcopy=False) if t.state.name != "WAITING"]


def of_trial(trial: Any, objectives: Sequence[Objective]) -> Tried:
    """Read one trial of Optuna."""
    told, path = trial.user_attrs, trial.user_attrs.get(EPOCHS) or []
    figures = tuple(trial.values) if trial.values else None
    if figures is None and path:
        figures = tuple(o.raised(value) for o, value in zip(objectives, best(path), strict=True))
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running"}
    return Tried(
        number=trial.number,
        state=states.get(trial.state.name, "failed" if FAILED in told else "interrupted"),
        settings={
            name: value if isinstance(value, int) else float(f"{value:.3g}") for name, value in trial.params.items()
        },
        figures=figures,
        best_epochs=told.get(BEST, {}),
        epochs=len(path),
        seconds=trial.duration and round(trial.duration.total_seconds(), 1),
        usual=bool(told.get(USUAL)),
        failure=told.get(FAILED),
    )


def document_of(trial: Tried, objectives: Sequence[Objective]) -> dict[str, Any]:
    """Return a trial as JSON values, its figures by name."""
    names = [objective.name for objective in objectives]
    figures = None if trial.figures is None else dict(zip(names, trial.figures, strict=True))
    return dataclasses.asdict(trial) | {"figures": figures}
