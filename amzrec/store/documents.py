"""JSON files as frozen dataclasses: checked when they are read, with a format version, unknown keys refused."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Self

from amzrec.errors import AmzrecError

FORMAT = 1  # version of the files that this amzrec writes; files of amzrec 0.1 name none, which counts as 0
VERSION_KEY = "format_version"

Json = Any  # a value that json.loads gives


def json_value(text: str | bytes) -> Json:
    """Decode a JSON document; ValueError where it is none, or lists stand in lists so deep that it cannot be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


class NewerFormat(ValueError):
    """A document was written in a later format than this amzrec reads."""


class UnknownKey(ValueError):
    """A document holds a key that this amzrec does not know."""


class Document:
    """What the documents below share: JSON out, and JSON in with every value checked against the type of its field."""

    def to_json(self) -> dict[str, Json]:
        """Return the fields as JSON values, after the format version."""
        return {VERSION_KEY: FORMAT} | plain(self)

    def write(self, file: Path) -> None:
        """Write the document into a folder that is under construction; OSError where that fails."""
        file.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def of(cls, decoded: object) -> Self:
        """Build the document from decoded JSON; missing keys get the defaults of their fields.

        Raises ValueError for a value of another type, a missing key, an unknown key (UnknownKey) and a version that is
        later than FORMAT (NewerFormat).
        """
        if not isinstance(decoded, dict):
            raise ValueError(f"it holds a {type(decoded).__name__} where an object should be")
        version = decoded.get(VERSION_KEY, 0)
        if not isinstance(version, int):
            raise ValueError(f"its {VERSION_KEY} is {version!r}")
        if version > FORMAT:
            raise NewerFormat(f"it has format {version}, and this amzrec reads formats up to {FORMAT}")
        document: Self = Builder(version).dataclass(cls, {k: v for k, v in decoded.items() if k != VERSION_KEY})
        return document

    @classmethod
    def read(cls, file: Path, remedy: str) -> Self:
        """Read a document from its file; AmzrecError, ending in `remedy`, where it is damaged or of another version."""
        try:
            return cls.of(json_value(file.read_text(encoding="utf-8")))
        except (NewerFormat, UnknownKey) as error:
            raise AmzrecError(
                f"{file} was written by another version of amzrec: {error}. "
                f"Install the newest one (pip install --upgrade amzrec), or {remedy}"
            ) from error
        except (OSError, ValueError) as error:
            raise AmzrecError(f"{file} is damaged ({error}): {remedy}") from error


def plain(document: Any) -> dict[str, Json]:
    """Return the fields of a dataclass, and of those in it, as values that JSON has."""
    fields: dict[str, Json] = json.loads(json.dumps(dataclasses.asdict(document)))
    return fields


class Builder:
    """Build dataclasses from decoded JSON of one format version."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.hints = dict[type[Any], dict[str, Any]]()  # types of fields, worked out once: a manifest has many entries

    def dataclass(self, kind: type[Any], decoded: dict[str, Json], where: str = "") -> Any:
        """Build a dataclass, and those in its fields; `where` begins the names in errors.

        A dataclass whose fields had other names in format 0 lists these in RENAMED, {old: new}.
        """
        renamed = getattr(kind, "RENAMED", {}) if self.version == 0 else {}
        decoded = {renamed.get(key, key): value for key, value in decoded.items()}
        if kind not in self.hints:
            self.hints[kind] = typing.get_type_hints(kind)
        hints = self.hints[kind]
        fields = {field.name: field for field in dataclasses.fields(kind)}
        for key in decoded:
            if key not in fields:
                raise UnknownKey(f"{where}{key} is not known (known: {', '.join(fields)})")
        for name, field in fields.items():
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and name not in decoded:
                raise ValueError(f"{where}{name} is missing")
        return kind(**{name: self.value(hints[name], value, where + name) for name, value in decoded.items()})

    def value(self, kind: Any, decoded: Json, name: str) -> Any:
        """Return one decoded JSON value as the type of its field; ValueError, with `name`, where it is another."""
        origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
        if kind is Any:
            return decoded
        if origin is types.UnionType:  # of something and None
            return None if decoded is None else self.value(inner[0], decoded, name)
        if dataclasses.is_dataclass(origin) and isinstance(origin, type) and isinstance(decoded, dict):
            return self.dataclass(origin, decoded, f"{name}.")
        if origin is tuple and isinstance(decoded, list):
            return tuple(self.value(inner[0], value, f"{name}[{place}]") for place, value in enumerate(decoded))
        if origin is dict and isinstance(decoded, dict):
            return {key: self.value(inner[1], value, f"{name}.{key}") for key, value in decoded.items()}
        if origin is float and type(decoded) is int:
            return float(decoded)
        if type(decoded) is origin:
            return decoded
        raise ValueError(f"{name} is {decoded!r}, which is no {getattr(kind, '__name__', kind)}")
