"""Addresses of sources that are no files: their parts, and how they are shown without what is secret in them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from amzrec.errors import AmzrecError

URL = re.compile(r"([a-z][a-z0-9]*)(\+[a-z0-9]+)?://", re.IGNORECASE)
STORES = ("s3", "gs", "http", "https")  # what `remote` fetches
STDIN, STDIN_SHOWN = "-", "standard input"
DATABASES = {  # scheme → module of `databases`
    **dict.fromkeys(("postgresql", "postgres"), "postgresql"),
    **dict.fromkeys(("mysql", "mariadb"), "mysql"),
    "sqlite": "sqlite",
}
PASSWORDS = {"postgresql": " and set PGPASSWORD", "mysql": " and set MYSQL_PWD"}
SECRET = re.compile(r"sign|sig$|token|secret|pass|cred|auth|session|key", re.IGNORECASE)  # names of parameters
MASK = "***"
ESCAPED = "a password with special characters is written with %40 for @, %23 for #, %2F for /, %3A for :, %25 for %"


@dataclasses.dataclass(frozen=True)
class Address:
    """One address, in parts."""

    scheme: str  # in lower case, without the driver that SQLAlchemy writes after a +
    url: str  # without what stands behind #
    shown: str  # the whole address, without secrets
    inside: str  # what stands behind #: a table or a query
    secrets: tuple[str, ...]  # pieces that nobody else may see

    @property
    def parts(self) -> SplitResult:
        """The parts of the URL."""
        return urlsplit(self.url)

    def hidden(self, text: str) -> str:
        """Return a text of a library without secrets."""
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text


def scheme_of(source: str) -> str:
    """Return the scheme of a source, such as s3, in lower case; nothing for a file."""
    found = URL.match(source)
    return found[1].lower() if found else ""


def is_remote(source: str) -> bool:
    """Return whether a source is copied before it is read: of an object store, a web server, standard input."""
    return source == STDIN or scheme_of(source) in STORES


def parsed(source: str) -> Address:
    """Take an address apart; AmzrecError where it is none, which shows nothing that might be a password."""
    scheme = scheme_of(source)
    rest = source[source.index("://") + 3 :]
    before, hash_sign, inside = rest.partition("#")
    if scheme not in DATABASES:  # a key may have any character
        before, inside = (rest, "") if scheme in ("s3", "gs") else (before, "")
    url = f"{scheme}://{before}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port, parts = -1, urlsplit(f"{scheme}://")
    stray = "@" in parts.path and scheme in (*DATABASES, "http", "https") and scheme != "sqlite" and not parts.username
    if port == -1 or stray or (hash_sign and "@" in inside.split(" ")[0] and scheme in DATABASES):
        raise AmzrecError(
            f"the address {scheme}://… cannot be understood: {ESCAPED}. "
            f"Or leave the password out{PASSWORDS.get(DATABASES.get(scheme, ''), '')}"
        )
    secrets = [value for name, value in parse_qsl(parts.query) if SECRET.search(name)]
    if parts.password:
        secrets += [parts.password, unquote(parts.password)]
    return Address(scheme, url, masked(source), inside.strip(), tuple(s for s in secrets if s))


def masked(source: str) -> str:
    """Return a source as it is shown: what is secret in an address is replaced by ***."""
    if source == STDIN:
        return STDIN_SHOWN
    if not scheme_of(source):
        return source
    start = source.index("://") + 3
    authority, slash, path = re.match(r"([^/?#]*)([/?#]?)(.*)", source[start:], re.DOTALL).groups()  # type: ignore[union-attr]
    user, at, host = authority.rpartition("@")
    if ":" in user:
        user = f"{user.partition(':')[0]}:{MASK}"
    rest = re.sub(
        r"([?&])([^=&#]+)=([^&#]*)",
        lambda found: f"{found[1]}{found[2]}={MASK}" if SECRET.search(found[2]) else found[0],
        slash + path,
    )
    return f"{source[:start]}{user}{at}{host}{rest}"


def file_of(source: str) -> tuple[Path, str]:
    """Return the file of `file.db`, `file.db#table`, and what stands behind its #."""
    if Path(source).exists():
        return Path(source), ""
    before, _, inside = source.partition("#")
    return Path(before), inside.strip()
