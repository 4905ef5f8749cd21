"""Where a training stands, in a file beside its checkpoint, so that it can go on after it was stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from amzrec.config import flag
from amzrec.errors import AmzrecError
from amzrec.store.documents import FORMAT, Builder, json_value
from amzrec.store.moment import Moment

SELECT, REFIT = "select", "refit"  # the phases: fitted on train and judged on valid; fitted on train + valid
ATTEND, ATTEND_AGAIN = "attention", "attention refit"  # the same of what reads products in order beside the towers
WRITE = "write"  # the last phase: all is learned, and the files of the run are written
MAY_CHANGE = ("epochs", "patience")  # settings that may be others when a training goes on before REFIT


@dataclasses.dataclass(frozen=True)
class MemoryChoice:
    """A memory of pairs, and what its votes count beside the scores of the towers."""

    kind: str  # order: what followed what; customers: what the same customers have; near: the same, near in time
    ridge: float  # of the kinds customers and near
    share: float  # scores per vote


@dataclasses.dataclass(frozen=True)
class AttentionChoice:
    """How long attention is trained, and what it counts beside the towers."""

    epochs: int
    share: float  # of the retrieval score; the towers have the rest: 0 leaves attention out, 1 the towers


@dataclasses.dataclass
class Choices:
    """What the phase SELECT has chosen on valid: all that the refit needs to know of it."""

    best: dict[str, int] = dataclasses.field(default_factory=dict)  # best epoch of each task; 0: as it started
    half_life: float | None = None  # days of the popularity that retrieval starts from; None: of all time
    all_time_now: bool = False  # whether answers as of now read the popularity of all time
    trend: bool = False  # whether the trend of the stars over time lowers the error
    svd_start: bool = False  # whether starting at singular vectors ranks better than popularity does
    memory: MemoryChoice | None = None  # None: the towers alone rank better
    attention: AttentionChoice | None = None  # None: not tried
    moment: Moment | None = None  # None: what a customer gave near a query's time says no more than the model does

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """Return the choices that a JSON document holds."""
        memory = document["memory"] and MemoryChoice(**document["memory"])
        moment = document["moment"] and Moment(**document["moment"])
        attention = document["attention"] and AttentionChoice(**document["attention"])
        return cls(**document | {"memory": memory, "moment": moment, "attention": attention})

    @property
    def epochs(self) -> int:
        """Return how many epochs the refit takes."""
        return max(self.best.values())


@dataclasses.dataclass
class State:
    """Where a training stands: what a checkpoint holds beside the weights."""

    settings: dict[str, Any]  # recipe, fingerprint and protocol: they must be equal to go on
    phase: str = SELECT
    epoch: int = 0  # finished epochs of this phase
    step: int = 0  # finished steps of the epoch after those
    choices: Choices = dataclasses.field(default_factory=Choices)
    figures: dict[str, float] = dataclasses.field(default_factory=dict)  # on valid at the best epoch of each task
    history: list[dict[str, str | float]] = dataclasses.field(default_factory=list)  # a row per epoch of both phases
    seconds: float = 0.0  # of training, interruptions left out
    checkpoint: str = ""  # name of the checkpoint with the weights; empty before the first one of the phase
    replaces: bool = False  # whether the run that stands at its place may be replaced

    @property
    def begun(self) -> bool:
        """Whether the phase is past its first step."""
        return self.epoch > 0 or self.step > 0

    def reached(self) -> str:
        """Say where the training stands, after …"""
        if self.phase == WRITE:
            return "all epochs, with its vectors left to write"
        of = {SELECT: "choosing epochs", ATTEND: "choosing epochs of attention", REFIT: "the refit"}.get(
            self.phase, "the refit of attention"
        )
        return f"{f'step {self.step} of epoch {self.epoch + 1}' if self.step else f'epoch {self.epoch}'} of {of}"

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the state of an unfinished training; raises AmzrecError where it is damaged or of another version."""
        try:
            return cls.of(json_value(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise AmzrecError(
                f"the unfinished training in {file.parent} cannot be read ({error}): begin again with --overwrite"
            ) from error

    @classmethod
    def of(cls, document: Any) -> Self:
        """Return the state that a JSON document holds; ValueError where it holds none."""
        if not isinstance(document, dict):
            raise ValueError(f"it holds a {type(document).__name__}")
        history = document.get("history", [])
        if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
            raise ValueError("its history is no list of epochs")
        state: Self = Builder(FORMAT).dataclass(cls, {k: v for k, v in document.items() if k != "history"})
        if missing := {"recipe", "fingerprint", "protocol"} - set(state.settings):
            raise ValueError(f"its settings have no {min(missing)}")
        if not isinstance(state.settings["recipe"], dict):
            raise ValueError("its recipe is no object")
        state.history = history
        return state

    def write(self, file: Path) -> None:
        """Write the state to a file, whole or not at all."""
        draft = file.with_name(f"{file.name}.new")
        draft.write_text(json.dumps(dataclasses.asdict(self)))
        draft.replace(file)

    def changed(self, settings: dict[str, Any], anything: bool = False) -> list[str]:
        """Return what differs from these settings, as flags of the command line, so that going on is refused.

        Of that nothing is left out where `anything` counts, not even what may change when a training goes on.
        """
        allowed = MAY_CHANGE if self.phase in (SELECT, ATTEND) and not anything else ()
        old, new = self.settings["recipe"], settings["recipe"]
        flags = [flag(name) for name in new if name not in allowed and old.get(name) != new[name]]
        return flags + [
            name for name in ("fingerprint", "protocol", "from") if self.settings.get(name) != settings[name]
        ]
