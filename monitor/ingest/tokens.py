"""Tokens that tenants send with: what is kept of them, and the file that keeps it.

A token is 256 bits of chance. That is what makes a plain SHA-256 of it safe to keep: there is nothing to guess, and a
slow hash, which passwords need, would make each request pay for it. (OWASP, Password Storage; RFC 6750 for how
they are sent.)
"""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from monitor.domain.errors import InvalidSettings
from monitor.wire import NAME_PATTERN

PREFIX = "gw_"
"""What every token begins with, so that scanners for leaked secrets can find one."""

_BYTES = 32
_Name = Annotated[str, Field(min_length=1, max_length=64, pattern=NAME_PATTERN)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """What is kept of one token.

    Attributes:
        name: tells it from others, in messages and logs.
        tenant: whom what it sends belongs to.
        sha256: of the token, hexadecimal.
        not_before, expires: when it holds; without them, always.
    """

    name: str
    tenant: str
    sha256: str
    not_before: datetime | None = None
    expires: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it lets its bearer in now."""
        return not self.early(now) and not self.over(now)

    def early(self, now: datetime) -> bool:
        """Whether it does not hold yet."""
        return self.not_before is not None and now < self.not_before

    def over(self, now: datetime) -> bool:
        """Whether it holds no longer."""
        return self.expires is not None and self.expires <= now


def new_secret() -> str:
    """A new token, to be shown once."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def digest(secret: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


class _TokenEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: _Name
    tenant: _Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    not_before: AwareDatetime | None = None
    expires: AwareDatetime | None = None


class _TokenList(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tokens: list[_TokenEntry]


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file.

    Raises:
        InvalidSettings: there is no such file, others may write it, or it is not what `write_tokens` writes;
            the message names the entry, and shows no hash.
    """
    try:
        with path.open("rb") as file:
            # Who may write it may let himself in. Reading it helps nobody: hashes cannot be turned back.
            if os.fstat(file.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise InvalidSettings(f"{path}: others than its owner may write it; chmod go-w {path}")
            written = json.loads(file.read())
    except OSError as error:
        raise InvalidSettings(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise InvalidSettings(f"{path}: not JSON: {error}") from None
    try:
        found = _checked(written["tokens"] if isinstance(written, dict) and len(written) == 1 else written)
    except (KeyError, InvalidSettings) as error:
        raise InvalidSettings(f"{path}: {error}") from None
    return tuple(Token(**entry.model_dump()) for entry in found.tokens)


def write_tokens(path: Path, tokens: Sequence[Token]) -> None:
    """Replace the file at once: a sidecar that reads it sees the old or the new one.

    Raises:
        InvalidSettings: it cannot be written, or one is not as it should be.
    """
    text = _checked([asdict(token) for token in tokens]).model_dump_json(indent=2, exclude_none=True) + "\n"
    beside = path.with_name(f".{path.name}.new")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise InvalidSettings(f"{path}: {error.strerror}") from None


def _checked(tokens: object) -> _TokenList:
    try:
        found = _TokenList.model_validate({"tokens": tokens})
    except ValidationError as error:
        # No input: it may be a token that someone took for its hash.
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidSettings(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    names: set[str] = set()
    bearers: dict[str, str] = {}
    for token in found.tokens:
        if token.name in names:
            raise InvalidSettings(f"tokens: two are named {token.name}")
        names.add(token.name)
        if (other := bearers.setdefault(token.sha256, token.name)) != token.name:
            raise InvalidSettings(f"tokens: {other} and {token.name} are the same token; take one of them out")
    return found
