"""Where the files that are not Python lie: beside the package in a source tree, inside it in a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """The folder `schemas`, `migrations` or `queries`.

    The wheel ships them as `monitor/_schemas` and so on; an editable install reads the
    repository's own.

    Raises:
        FileNotFoundError: neither is there: the installation is broken.
    """
    for candidate in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"{name} is neither packaged with groundwatch nor beside it; install groundwatch again")
