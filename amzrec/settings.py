"""What a setting is: a field of a frozen dataclass whose annotation says what it allows, checked when it is made."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import numbers
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from amzrec.errors import AmzrecError

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", tuple: "whole numbers"}


@dataclasses.dataclass(frozen=True)
class Group:
    """The heading under which `--help-all` shows a setting."""

    name: str


@dataclasses.dataclass(frozen=True)
class Limit:
    """A bound on a number, or on each number of a list."""

    text: str
    holds: Callable[[float], bool]


SHOWN = "shown"  # marks the settings that the short --help shows


def at_least(low: float) -> Limit:
    """Allow numbers from `low` on."""
    return Limit(f"at least {low:g}", lambda value: value >= low)


def above(low: float) -> Limit:
    """Allow numbers above `low`."""
    return Limit(f"above {low:g}", lambda value: value > low)


def at_most(high: float) -> Limit:
    """Allow numbers up to `high`."""
    return Limit(f"at most {high:g}", lambda value: value <= high)


def below(high: float) -> Limit:
    """Allow numbers below `high`."""
    return Limit(f"below {high:,}" if isinstance(high, int) else f"below {high:g}", lambda value: value < high)


def flag(name: str) -> str:
    """Spell a field as its command-line flag: `rating_weight` is `--rating-weight`."""
    return "--" + name.replace("_", "-")


def pairs_text(pairs: Mapping[str, Any]) -> str:
    """Write pairs as one types them, `customer=UserId,product=ItemId`, those with a comma or a quote in quotes."""
    texts = [f"{name}={value}" for name, value in pairs.items()]
    return ",".join(f'"{text.replace(chr(34), chr(34) * 2)}"' if set(text) & {",", '"'} else text for text in texts)


def require(ok: bool, name: str, found: object, allowed: str) -> None:
    """Raise the one error of a bad setting: which flag, what was found, what is allowed."""
    if not ok:
        raise AmzrecError(f"{flag(name)} is {found!r}; allowed: {allowed}")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of a Config, as its check and its flag read it."""

    name: str
    kind: type  # int, float, bool, str, or tuple for a list of whole numbers
    default: Any
    optional: bool  # whether None is allowed: then the data decide
    choices: tuple[str, ...]  # the allowed texts; empty: any
    limits: tuple[Limit, ...]
    group: str  # the heading in --help-all
    shown: bool  # whether the short --help shows it

    @property
    def allowed(self) -> str:
        """Say what the setting takes, with its default as the example."""
        if self.choices:
            return " | ".join(self.choices)
        limits = " and ".join(limit.text for limit in self.limits)
        each = ", each " if self.kind is tuple else ", "
        return WORDS[self.kind] + (each + limits if limits else "") + (f", such as {self.text}" if self.default else "")

    @property
    def text(self) -> str:
        """The default as one would type it; empty where there is none."""
        if self.default is None or self.kind is bool:
            return "" if self.default is None else str(self.default).lower()
        values = self.default if self.kind is tuple else (self.default,)
        return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)

    def check(self, value: Any) -> None:
        """Raise AmzrecError where the value has another type than the field, or is out of its bounds."""
        if value is None and self.optional:
            return
        values = value if isinstance(value, (tuple, list)) and self.kind is tuple else [value]
        fits = all(is_a(int if self.kind is tuple else self.kind, one) for one in values)
        bounded = fits and all(limit.holds(one) for limit in self.limits for one in values)
        listed = not self.choices or value in self.choices
        require(bounded and listed and (self.kind is not tuple or values is value), self.name, value, self.allowed)

    def parse(self, text: str) -> Any:
        """Read what was typed after the flag: numbers as numbers, `256,128` as a list, an empty list as none."""
        try:
            if self.kind is tuple:
                return tuple(int(part) for part in text.split(",") if part.strip())
            return self.kind(text)
        except ValueError:
            raise AmzrecError(f"{flag(self.name)} is {text!r}; allowed: {self.allowed}") from None


def is_a(kind: type, value: Any) -> bool:
    """Whether the value is of this type; whole numbers are numbers, NaN, infinity, True and False are none."""
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind)


def settings_of(config: type[Config]) -> dict[str, Setting]:
    """Give the settings of a class, by name in the order of its fields; they are read once, from its annotations."""
    if "SETTINGS" not in vars(config):
        hints = get_type_hints(config, include_extras=True)
        config.SETTINGS = {field.name: setting_of(field, hints[field.name]) for field in dataclasses.fields(config)}
    return config.SETTINGS


def setting_of(field: dataclasses.Field[Any], hint: Any) -> Setting:
    """Read one field: `Annotated[float | None, GROUP, above(0)]` is an optional number in a group, above 0."""
    kind, *marks = get_args(hint) if get_origin(hint) is Annotated else [hint]
    parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    kind = next(part for part in parts if part is not type(None))
    listed = get_origin(kind) is Literal
    return Setting(
        name=field.name,
        kind=str if listed else get_origin(kind) or kind,
        default=field.default,
        optional=type(None) in parts,
        choices=get_args(kind) if listed else (),
        limits=tuple(mark for mark in marks if isinstance(mark, Limit)),
        group=next((mark.name for mark in marks if isinstance(mark, Group)), ""),
        shown=SHOWN in marks,
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings that check themselves when they are made, and go to JSON and back; an unknown key is an error."""

    SETTINGS: ClassVar[dict[str, Setting]]
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # name → where a `preset` differs from the defaults

    def __post_init__(self) -> None:
        for name, setting in settings_of(type(self)).items():
            setting.check(getattr(self, name))

    def to_json(self) -> dict[str, Any]:
        """Give the settings as JSON values, in the order of the fields."""
        return dict(json.loads(json.dumps(dataclasses.asdict(self))))

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Build from keywords or a JSON object: a `preset` fills in what is not given, and lists become tuples.

        Raises AmzrecError for an unknown key, and for what the constructor refuses.
        """
        known = settings_of(cls)
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise AmzrecError(f"unknown setting {key!r}{hint} (allowed: {', '.join(known)})")
        for field in dataclasses.fields(cls):
            if not field.init and field.name in values:
                known[field.name].check(values[field.name])
        values = cls.filled_in(values.get("preset")) | values
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        recorded = {f.name: values.pop(f.name) for f in dataclasses.fields(cls) if not f.init and f.name in values}
        config = cls(**values)
        for name, value in recorded.items():
            object.__setattr__(config, name, value)
        return config

    def replace(self, **values: Any) -> Self:
        """Give the same settings with some changed; a `preset` among them changes all that it fills in."""
        return type(self).of(**dataclasses.asdict(self) | self.filled_in(values.get("preset")) | values)

    @classmethod
    def filled_in(cls, preset: str | None) -> dict[str, Any]:
        """Give what a preset fills in: every setting that any preset changes, as this one has it; nothing without one.

        Presets stand instead of each other, so one that follows another leaves nothing of it behind.
        """
        if preset is None or preset not in cls.PRESETS:
            return {}
        names = [name for values in cls.PRESETS.values() for name in values]
        return {name: settings_of(cls)[name].default for name in names} | dict(cls.PRESETS[preset])
