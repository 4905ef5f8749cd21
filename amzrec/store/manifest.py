"""The manifest of a folder: who it is, and the size and checksum of each file, so that nobody answers from damage.

A folder that is whole has one, `manifest.json`, written last. Its identity, drawn at random, also stands in the
document that describes the folder (run.json, dataset.json, export.json), so that a manifest that is gone, or is of
another folder, is noticed. A folder of before there were manifests names no identity: it is opened, and checked as far
as it can be.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import secrets
import zlib
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.store.documents import Document, json_value, plain
from amzrec.store.ownership import MANIFEST, UNFINISHED_TRAINING, Kind

BLOCK = 1 << 22
UNLISTED = ("checkpoints/*", *UNFINISHED_TRAINING)  # of an unfinished training, removed when it is finished


class Damaged(ValueError):
    """A file does not hold what was written."""


def new_identity() -> str:
    """Draw the identity of a folder, 32 hex digits that no other has."""
    return secrets.token_hex(16)


def checksum(file: Path) -> str:
    """Return the CRC-32 of a file as 8 hex digits: a changed byte changes it."""
    crc = 0
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            crc = zlib.crc32(block, crc)
    return f"{crc:08x}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a file must be."""

    size: int  # bytes
    crc32: str  # 8 hex digits

    @classmethod
    def of(cls, file: Path) -> Entry:
        """Read a file that was just written."""
        return cls(file.stat().st_size, checksum(file))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest(Document):
    """manifest.json: what a folder holds."""

    kind: str  # of the folder: the name of its Kind
    identity: str
    files: dict[str, Entry]  # by path within the folder, / between its parts
    replacing: dict[str, Entry] = dataclasses.field(default_factory=dict)  # that are taking the place of `files` now
    checksum: str = ""  # of all of the above

    def signed(self) -> Manifest:
        """Return the manifest with its checksum."""
        return dataclasses.replace(self, checksum=self.sum())

    def sum(self) -> str:
        """Return the CRC-32 of all but the checksum, 8 hex digits."""
        said = json.dumps(plain(dataclasses.replace(self, checksum="")), sort_keys=True)
        return f"{zlib.crc32(said.encode()):08x}"

    def check_size(self, folder: Path, name: str, held: Path | None = None) -> None:
        """Raise Damaged where a file is missing or of another size; one that is not listed is not looked at.

        `held` is where it is read, where that is not by its name.
        """
        if not self.allowed(name):
            return
        try:
            found = (held or folder / name).stat().st_size
        except OSError as error:
            if name not in self.files:
                return  # it did not come
            raise Damaged(f"{name} is missing ({error.strerror})") from None
        if found not in (sizes := [entry.size for entry in self.allowed(name)]):
            raise Damaged(f"{name} has {found:,} bytes where {sizes[0]:,} were written")

    def check_content(self, folder: Path, name: str, held: Path | None = None) -> None:
        """Raise Damaged where a file is not what was written; one that is not listed is not looked at."""
        self.check_size(folder, name, held)
        file = held or folder / name
        allowed = [entry.crc32 for entry in self.allowed(name)]
        if allowed and file.exists() and checksum(file) not in allowed:
            raise Damaged(f"{name} is not as it was written (its checksum is another)")

    def allowed(self, name: str) -> list[Entry]:
        """List what a file may be: while it is replaced, also what comes."""
        return [part[name] for part in (self.files, self.replacing) if name in part]


def write_manifest(folder: Path, kind: Kind) -> None:
    """Write the manifest of a folder under construction that is whole otherwise; OSError where that fails.

    Its identity is the one that the folder's describing document names.
    """
    found = (str(file.relative_to(folder).as_posix()) for file in sorted(folder.rglob("*")) if file.is_file())
    names = [name for name in found if listed(name, kind)]
    identity = str(json_of(folder / kind.marker).get("identity") or new_identity())
    files = {name: Entry.of(folder / name) for name in names}
    Manifest(kind=kind.name, identity=identity, files=files).signed().write(folder / MANIFEST)


def json_of(file: Path) -> dict[str, object]:
    """Read a JSON object; an empty one where there is none."""
    try:
        document = json_value(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def listed(name: str, kind: Kind) -> bool:
    """Tell whether the manifest of this kind of folder lists a file."""
    return kind.writes(name) and not any(fnmatch.fnmatch(name, pattern) for pattern in UNLISTED)


def read_manifest(folder: Path, kind: Kind, identity: str = "", shown: Path | None = None) -> Manifest | None:
    """Read the manifest of a folder whose describing document names this identity; None for one of before manifests.

    Errors name the folder as it is `shown`.

    Raises AmzrecError where it is not what was written, missing, of another folder, or of a newer format.
    """
    file, shown = folder / MANIFEST, shown or folder
    if not file.exists():
        if identity:
            raise damaged(shown, kind, f"{MANIFEST} is missing")
        return None
    manifest = Manifest.read(file, kind.remedy(shown))
    if manifest.sum() != manifest.checksum:
        raise damaged(shown, kind, f"{MANIFEST} is not as it was written (its checksum is another)")
    if manifest.kind != kind.name or (identity and manifest.identity != identity):
        raise damaged(shown, kind, f"{MANIFEST} is of another folder")
    return manifest


def damaged(folder: Path, kind: Kind, reason: object) -> AmzrecError:
    """Make the error for a folder that does not hold what was written, with what to type."""
    remedy = kind.remedy(folder)
    return AmzrecError(f"{kind.name} {folder} is damaged: {reason}. {remedy[:1].upper()}{remedy[1:]}")
