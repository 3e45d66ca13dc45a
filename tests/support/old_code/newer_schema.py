"""A pytest plugin for tests of an older tree: their ledger is made by a newer tree, named in GROUNDWATCH_NEWER_TREE.

The older code is what runs; the tables, views and functions under it are those after GROUNDWATCH_NEWER_REVISION.
"""

import os
import subprocess
import sys

from monitor.storage import migrate

_UPGRADE = "import sys; from monitor.storage.migrate import upgrade; upgrade(*sys.argv[1:])"


def _upgraded(url: str, revision: str = "head") -> migrate.MigrationState:
    del revision
    tree = os.environ["GROUNDWATCH_NEWER_TREE"]
    command = [sys.executable, "-c", _UPGRADE, url, os.environ["GROUNDWATCH_NEWER_REVISION"]]
    subprocess.run(command, check=True, cwd=tree, env={**os.environ, "PYTHONPATH": tree}, timeout=120)
    return migrate.check(url)


migrate.upgrade = _upgraded
