"""Command-line flags from the settings: one per field of a config dataclass, the comment beside it as its help."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from amzrec import config
from amzrec.config import Config, flag
from amzrec.errors import AmzrecError

FIELD = re.compile(r"^    (\w+): [^#]*?(?:  # (.*))?$")
SEE = re.compile(r"see ([A-Z_]+)")
KINDS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "tuple[int, ...]": str}


def comments() -> dict[str, dict[str, str]]:
    """{class: {field: the comment beside it}} of amzrec/config.py, in the order of the file."""
    found: dict[str, dict[str, str]] = {}
    for line in Path(config.__file__).read_text(encoding="utf-8").splitlines():
        if line.startswith("class "):
            found[line.split()[1].partition("(")[0].rstrip(":")] = fields = {}
        elif found and (match := FIELD.match(line)) and match[2]:
            fields[match[1]] = match[2]
    return found


def allowed(constant: re.Match[str]) -> str:
    """`see SPLITS` as the values themselves."""
    return " | ".join(getattr(config, constant[1]))


def options(settings: type[Config], renamed: dict[str, str]) -> list[inspect.Parameter]:
    """The fields as keyword parameters that typer reads; None where a flag is not given: defaults stay in one place."""
    help_of = comments()[settings.__name__]
    made = []
    for field in dataclasses.fields(settings):
        name = renamed.get(field.name, field.name)
        kind = KINDS[str(field.type).removesuffix(" | None")]
        default = field.default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        default_text = "" if shown in (None, "") else f" [default: {str(shown).lower() if kind is bool else shown}]"
        spelling = f"{flag(name)}/--no-{flag(name)[2:]}" if kind is bool else flag(name)
        option = typer.Option(spelling, help=SEE.sub(allowed, help_of.get(field.name, "")) + default_text)
        annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
        made.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return made


def build(settings: type[Config], values: dict[str, Any], renamed: dict[str, str]) -> Config | None:
    """The settings from the flags that were given, None where none was."""
    given: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = values.get(renamed.get(field.name, field.name))
        if value is not None:
            given[field.name] = numbers(field.name, value) if str(field.type).startswith("tuple") else value
    return settings.of(**given) if given else None


def numbers(name: str, value: str) -> tuple[int, ...]:
    """`256,128` as whole numbers, `` as none."""
    try:
        return tuple(int(part) for part in value.split(",") if part.strip())
    except ValueError:
        raise AmzrecError(f"{flag(name)} is {value!r}; allowed: whole numbers, such as 256,128") from None


def with_settings(
    renamed: dict[str, str] | None = None, **settings: type[Config]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace keyword parameters of a command by the flags of a config class: `prepare=PrepareConfig`.

    The command receives the built config, or None where no flag of it was given. `renamed` gives the first class
    other flag names, where two classes have a field of the same name.
    """
    names = list(settings)
    spelled = {name: (renamed or {}) if name == names[0] else {} for name in names}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        parameters = [parameter for name, parameter in own.parameters.items() if name not in settings]
        for name, kind in settings.items():
            parameters += options(kind, spelled[name])

        def run(**values: Any) -> None:
            built = {name: build(kind, values, spelled[name]) for name, kind in settings.items()}
            command(**{name: values[name] for name in own.parameters if name not in settings}, **built)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        return run

    return decorate
