"""What each process of a study does: trial after trial until the budget is spent; `python -m` starts further ones."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from amzrec.config import Recipe
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.store.dataset import Dataset, open_dataset
from amzrec.store.locks import claim, owner
from amzrec.tuning import study as studies
from amzrec.tuning.front import Objective, Tried, objectives_of
from amzrec.tuning.pruning import is_behind
from amzrec.tuning.space import Dimension
from amzrec.tuning.trial import Quiet, measured

POLL = 0.5  # seconds between two looks at what other processes have done


class Stopped(AmzrecError):
    """A trial is ended from outside, and counts as interrupted."""


@dataclasses.dataclass(frozen=True)
class Job:
    """All that a process needs to know to work on a study."""

    dataset: str  # path of the dataset folder
    recipe: dict[str, Any]
    dimensions: list[dict[str, Any]]
    address: str  # of the database, as SQLAlchemy has it
    name: str  # of the study
    place: str  # path beside which locks are held
    trials: int | None  # that the study is to have
    until: float | None  # unix seconds


def work(job: Job, progress: Progress = SILENT) -> Iterator[None]:
    """Run trials until the study has enough of them or time is over, and yield after each."""
    dataset, recipe = open_dataset(job.dataset), Recipe.of(**job.recipe)
    objectives, space = objectives_of(recipe), [Dimension(**each) for each in job.dimensions]
    study = studies.open_study(job.address, job.name, objectives)
    with claim(Path(job.place)) as token, studies.reached(job.address):
        worker = Worker(job, dataset, recipe, objectives, space, study, token, progress)
        while not is_over(job, study):
            worker.once()
            yield


@dataclasses.dataclass
class Worker:
    """A process at work on a study."""

    job: Job
    dataset: Dataset
    recipe: Recipe
    objectives: list[Objective]
    space: list[Dimension]
    study: Any
    token: str  # of the lock that it holds
    progress: Progress
    lost: bool = False  # whether others have ended the trial under way, which they took for dead

    def once(self) -> None:
        """Run one trial."""
        import optuna

        # a seed for each trial: a study that was interrupted goes on as if it had not been
        seed = (self.recipe.seed + len(self.study.get_trials(deepcopy=False))) % 2**32
        self.lost = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is experimental in Optuna
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            try:
                self.study.optimize(self.objective, n_trials=1, catch=(AmzrecError,))
            except ValueError:  # a trial that is over cannot be ended
                if not self.lost:
                    raise

    def objective(self, trial: Any) -> list[float]:
        """Train once with the settings that are suggested, and return the figure of each objective."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            return self.figures(trial)
        except UpdateFinishedTrialError as error:
            self.lost = True
            raise Stopped("another process took this trial for dead") from error
        except Stopped:
            raise
        except AmzrecError as error:
            trial.set_user_attr(studies.FAILED, str(error))
            raise

    def figures(self, trial: Any) -> list[float]:
        """Train once, and note in the trial whose it is, how far it is, and the best epochs."""
        for key, value in ((studies.OWNER, owner()), (studies.PLACE, self.job.place), (studies.TOKEN, self.token)):
            trial.set_user_attr(key, value)
        recipe = self.recipe.replace(**{dimension.name: dimension.suggested(trial) for dimension in self.space})
        path: list[list[float]] = []

        def told(figures: list[float]) -> None:
            path.append(figures)
            trial.set_user_attr(studies.EPOCHS, path)
            self.stop(trial, path)

        quiet = Quiet(self.progress, f"trial {trial.number}")
        found, best_epochs = measured(self.dataset, recipe, self.objectives, told, quiet)
        trial.set_user_attr(studies.BEST, best_epochs)
        return found

    def stop(self, trial: Any, path: list[list[float]]) -> None:
        """End a trial in which the minutes end, or that is behind the others and not that of the defaults."""
        import optuna

        if not trial.user_attrs.get(studies.USUAL) and is_behind(path, paths_of(self.study, trial.number)):
            raise optuna.TrialPruned
        if self.job.until is not None and time.time() > self.job.until:
            raise Stopped("the minutes are over")


def is_over(job: Job, study: Any) -> bool:
    """Tell whether the budget is spent, after the trials of killed processes were ended."""
    studies.bury(study)
    late = job.until is not None and time.time() > job.until
    return late or (job.trials is not None and studies.counted(study) >= job.trials)


def paths_of(study: Any, number: int) -> list[tuple[list[list[float]], bool]]:
    """Return the figures by epoch of all other trials, and whether each is finished."""
    others = [t for t in study.get_trials(deepcopy=False) if t.number != number and studies.FAILED not in t.user_attrs]
    return [(t.user_attrs.get(studies.EPOCHS) or [], t.state.name == "COMPLETE") for t in others]


# --- several processes


def work_together(job: Job, workers: int) -> Iterator[None]:
    """Let `workers` new processes work, and yield now and then until all have ended.

    Raises AmzrecError with what the last one said, where all have failed. Ends them all where the caller stops.
    """
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    environment = os.environ | {"TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-P", "-c", "from amzrec.tuning.work import main; main()"]
    with started(command, environment, workers, json.dumps(dataclasses.asdict(job))) as (processes, words):
        while any(process.poll() is None for process in processes):
            yield
            time.sleep(POLL)
        if all(process.returncode for process in processes):
            words.seek(0)
            said = words.read().decode(errors="replace").strip().splitlines()
            raise AmzrecError(said[-1] if said else f"all {workers} processes of the study ended without a word")


@contextmanager
def started(command: list[str], environment: dict[str, str], number: int, job: str) -> Iterator[tuple[list[Any], Any]]:
    """Start processes that read their job; gives them, and the file of what they say. They end with the block.

    They also end when the pipe to them does, which is when this process is killed.
    """
    with tempfile.TemporaryFile() as words:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": words}
        processes = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(number)]
        try:
            for process in processes:
                with suppress(BrokenPipeError):  # it could not even start, and said why
                    assert process.stdin is not None
                    process.stdin.write(f"{job}\n")
                    process.stdin.flush()
            yield processes, words
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def main() -> None:
    """Do the job that stands in the first line of standard input; end when the process that sent it has ended."""
    job = Job(**json.loads(sys.stdin.readline()))
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        for _ in work(job):
            pass
    except AmzrecError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


def end_with_parent() -> None:
    """Wait until nobody is at the other end of standard input."""
    sys.stdin.read()
    os._exit(1)


def shown(trial: Tried, objectives: Sequence[Objective]) -> str:
    """Say in one line what a trial did."""
    figures = ", ".join(f"{o.name} {value:.4f}" for o, value in zip(objectives, trial.figures or (), strict=False))
    settings = " ".join(f"{name.replace('_', '-')} {value:g}" for name, value in trial.settings.items())
    kind = {"pruned": f", stopped after {trial.epochs} epochs", "failed": f" failed: {trial.failure}"}
    usual = " (the defaults)" if trial.usual else ""
    return f"trial {trial.number}{usual}: {figures or trial.state}{kind.get(trial.state, '')}; {settings}"
