"""The settings of a finished run, or of a JSON file, to be used again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.settings import settings_of
from amzrec.store.documents import plain
from amzrec.store.run import open_run


@dataclasses.dataclass(frozen=True)
class RepeatedSettings:
    """What a recipe gives: the fields of a run by stage, or the keys of a file, which are the flags of a command."""

    train: dict[str, Any] = dataclasses.field(default_factory=dict)  # fields of TrainConfig
    prepare: dict[str, Any] = dataclasses.field(default_factory=dict)  # fields of PrepareConfig
    flags: dict[str, Any] = dataclasses.field(default_factory=dict)  # dashes read as underscores


def read_recipe(place: Path) -> RepeatedSettings:
    """Read the settings of the run folder `place`, or of the JSON object in the file `place`.

    Raises AmzrecError where there is neither, and where the file is no JSON object.
    """
    if place.is_dir():
        info = open_run(place).info
        protocol = plain(info.protocol) if info.protocol else {}
        split = {key: value for key, value in protocol.items() if key in settings_of(PrepareConfig)}
        return RepeatedSettings(train=info.recipe, prepare=split)
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise AmzrecError(f"--recipe {place}: {error.strerror or error}; name a run folder or a JSON file") from error
    except ValueError as error:
        raise AmzrecError(f"--recipe {place} is not a JSON file ({error}); name a run folder or a JSON file") from error
    if not isinstance(document, dict):
        raise AmzrecError(f'--recipe {place} is not a JSON object of flags, such as {{"epochs": 20, "dim": 64}}')
    return RepeatedSettings(flags={key.lstrip("-").replace("-", "_"): value for key, value in document.items()})
