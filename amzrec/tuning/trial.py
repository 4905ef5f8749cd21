"""One trial: the phase that chooses epochs on valid, told after each epoch how far it is, without a run at the end."""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from amzrec.config import Recipe
from amzrec.errors import AmzrecError, Progress
from amzrec.store.dataset import Dataset
from amzrec.store.folders import scratch_folder
from amzrec.training.session import Session
from amzrec.tuning.front import Objective

if TYPE_CHECKING:
    from amzrec.training.learner import Learner
    from amzrec.training.watch import Watch

Told = Callable[[list[float]], None]  # receives the figures of an epoch, the higher the better, and may end the trial


@dataclasses.dataclass(frozen=True)
class Quiet:
    """A Progress that passes on how far the epochs are, and none of the sentences."""

    progress: Progress
    name: str

    def say(self, line: str) -> None:
        """Show nothing."""

    def step(self, label: str, done: int, total: int, note: str = "") -> None:
        """Show how far the trial is."""
        self.progress.step(f"{self.name}, {label}", done, total, note)


class TrialSession(Session):
    """A training that is never finished: it tells the figures of each epoch, and keeps no checkpoints."""

    def told_to(self, told: Told, objectives: Sequence[Objective]) -> None:
        """Set who is told."""
        self.told, self.objectives = told, objectives

    def record(self, facts: dict[str, float], figures: dict[str, float]) -> None:
        """Add the present epoch to the history, and tell its figures."""
        super().record(facts, figures)
        found = [objective.raised(figures.get(f"valid_{objective.name}", math.nan)) for objective in self.objectives]
        self.told([value if math.isfinite(value) else -math.inf for value in found])

    def save(self, learner: Learner, watch: Watch | None) -> None:
        """Save nothing."""


def measured(
    dataset: Dataset, recipe: Recipe, objectives: Sequence[Objective], told: Told, progress: Progress
) -> tuple[list[float], dict[str, int]]:
    """Train on train with this recipe; return the best figure on valid of each objective, and the best epochs.

    Test reviews are never read. Whatever `told` raises ends the trial. Raises AmzrecError where valid cannot judge a
    task, and where the loss is no number.
    """
    from amzrec.model.keras2 import graphs_as_written
    from amzrec.training import phases

    try:
        with scratch_folder() as folder, graphs_as_written():
            # with a refit to follow no snapshots are written
            session = TrialSession(dataset, recipe.replace(refit=True), folder / "trial", progress, False)
            session.told_to(told, objectives)
            session.open_state(False, True)
            phases.choose_epochs(session)
            figures = session.state.figures
            found = [objective.raised(figures.get(objective.task, -math.inf)) for objective in objectives]
            if not all(map(math.isfinite, found)):
                raise AmzrecError("valid cannot judge this trial: too few reviews, or none with stars")
            return found, dict(session.state.choices.best)
    finally:
        forget_graphs()


def forget_graphs() -> None:
    """Let go of what TensorFlow keeps of a training: the next trial begins with the memory of the first."""
    from amzrec.model.keras2 import import_tensorflow

    import_tensorflow().keras.backend.clear_session()
    gc.collect()
