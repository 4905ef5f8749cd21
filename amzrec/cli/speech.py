"""What all commands say in the same way: documents and tables, the voice of long work, what is tracked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amzrec.cli.program import tell
from amzrec.cli.streams import speaks_unicode
from amzrec.cli.terminal import Terminal
from amzrec.errors import printable
from amzrec.interrupts import Interrupted


def show(document: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print the document, whole and alone, or the table."""
    shown = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=not speaks_unicode()) if as_json else text()
    tell(printable(shown, as_json))


@contextmanager
def speaking() -> Iterator[Terminal]:
    """Open the voice of long work, which nothing that TensorFlow has to say interrupts."""
    import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    voice = Terminal()
    yield voice
    voice.close()


@contextmanager
def can_go_on(run: Path) -> Iterator[None]:
    """Let an interrupt of the evaluation of a run say how to go on with it."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        raise Interrupted("the run is trained, and its evaluation is left", run) from stopped


@contextmanager
def tracking(store: str | None) -> Iterator[Callable[[Any], None]]:
    """Reach a store of trainings before the work begins, and give what keeps a run there; nothing without `store`."""
    if store is None:
        yield lambda run: None
        return
    from amzrec.commands.track import open_tracker, track

    tracker = open_tracker(store)

    def keep(run: Any) -> None:
        with speaking() as voice:
            voice.say(f"tracked at {tracker.where} as {track(run, store, tracker=tracker)}")

    yield keep


def one_or_several(sources: list[str] | None) -> str | list[str] | None:
    """Return the sources that were typed as the verbs take them: one name, a list of names, or None for the sample."""
    return None if not sources else sources[0] if len(sources) == 1 else sources


def width() -> int:
    """Count the characters that a line may have."""
    return shutil.get_terminal_size((110, 20)).columns
