"""A gate that asks for a token. Tokens come and go while the sidecar runs."""

import hmac
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from monitor.domain.errors import InvalidSettings
from monitor.ingest.callers import Caller
from monitor.ingest.counters import Denial, Refusal
from monitor.ingest.refused import RequestRefused
from monitor.ingest.tokens import Token, digest, read_tokens
from monitor.ingest.watched_files import WatchedFiles

_log = logging.getLogger(__name__)

_SCHEME = "bearer"
# About 300 tokens, which are read in 2 ms; requests do not wait for more.
_INLINE_BYTES = 64 * 1024
_WANTED = "send a token that holds, as: Authorization: Bearer <token>"


class TokenGate:
    """Lets in who bears a token of the file, and speaks for its tenant.

    The file is looked at again at most once a second; a broken one changes nothing, and is told of in `problem`. A
    large one is read beside the requests, which until then are let in, or not, by what was read before.

    Args:
        path: of the tokens.
        now: aware wall clock, for what a token says of its time.
        clock: seconds that never go back.

    Raises:
        InvalidSettings: the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._file = WatchedFiles(path, clock=clock)
        self._tokens = read_tokens(path)
        self._problem: str | None = None
        self._told_of: set[Token] = set()

    @property
    def problem(self) -> str | None:
        """Why the file is not used as it is now, if it is not."""
        return self._problem

    def admit(self, authorization: str | None) -> Caller:
        """Who the token speaks for. It is not told whether it is unknown, expired or not yet valid.

        Raises:
            RequestRefused: 401.
        """
        self._look_again()
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != _SCHEME or not secret.strip():
            raise _not_let_in(Denial.MISSING)
        found = self._of(digest(secret.strip()))
        if found is None:
            raise _not_let_in(Denial.UNKNOWN)
        now = self._now()
        if found.over(now):
            self._tell_once(found, f"is over since {found.expires}")
            raise _not_let_in(Denial.EXPIRED)
        if found.early(now):
            self._tell_once(found, f"does not hold before {found.not_before}")
            raise _not_let_in(Denial.NOT_YET_VALID)
        return Caller(tenant=found.tenant)

    def _tell_once(self, token: Token, why: str) -> None:
        """A sender goes on for as long as nobody looks: one line, not one a request."""
        with self._lock:
            if token in self._told_of:
                return
            self._told_of.add(token)
        _log.warning("token %s of tenant %s was used and %s", token.name, token.tenant, why)

    def _of(self, sha256: str) -> Token | None:
        """Each is compared, and each to its end: time tells nothing of where a match is."""
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, sha256):
                found = token
        return found

    def _look_again(self) -> None:
        if not self._file.changed():
            return
        if _size(self._path) <= _INLINE_BYTES:
            self._read()
        else:  # until then the tokens stay as they were
            threading.Thread(target=self._read, name="tokens", daemon=True).start()

    def _read(self) -> None:
        with self._reading:  # or an older reading could take the place of a newer one
            try:
                tokens = read_tokens(self._path)
            except InvalidSettings as error:
                self._file.forget()
                if self._problem != str(error):  # it is tried once a second
                    _log.error("the tokens stay as they were: %s", error)
                self._problem = str(error)
                return
            with self._lock:
                self._tokens = tokens
                self._problem = None
                self._told_of &= set(tokens)
            _log.warning("tokens were read anew: %d", len(tokens))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # reading it says why
        return 0


def _not_let_in(denial: Denial) -> RequestRefused:
    return RequestRefused(401, Refusal.UNAUTHENTICATED, _WANTED, denial=denial)
