"""Backends: the local models, one module each, loaded on first use and shared by the process.

`roles` defines the interface of each kind of backend. A new backend is a module here, a protocol
in `roles` if its kind is new, and a function below. If something it needs is missing, loading it
raises an `ApiError` that says so.
"""

import ctypes
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from cfai.local import weights
from cfai.local.backends import roles, smollm2
from cfai.local.backends.hibari import Hibari
from cfai.local.backends.minilm import CosineReranker, MiniLM
from cfai.local.backends.moonshine import Moonshine
from cfai.local.backends.silero import Silero
from cfai.local.backends.smart_turn import SmartTurn
from cfai.local.backends.textrank import TextRank
from cfai.local.backends.vader import Vader
from cfai.local.backends.vision.conse import ConvexEmbedder
from cfai.local.backends.vision.description import Describer
from cfai.local.backends.vision.efficientnet import EfficientNet
from cfai.local.backends.vision.nanodet import NanoDet
from cfai.local.backends.vision.ppocr import PaddleOcr
from cfai.local.errors import not_supported

T = TypeVar("T")

_EXTRAS = {"hibari": "speech", "soundfile": "speech", "onnx": "vision", "PIL": "vision"}
"""The extras of the libraries that `local` does not have."""

_loaded: dict[str, Any] = {}
_loading = threading.RLock()


def text_generator(path: Path | None = None, mmproj: Path | None = None) -> roles.TextGenerator:
    """Return SmolLM2, or the model in a GGUF file. The first call loads it."""
    if path is None:
        return _load_once("text generator", _load_smollm2)
    name = "".join(c if c.isascii() and c.isprintable() else "-" for c in path.stem)
    return _load_once(
        f"text generator {path} {mmproj}",
        lambda: smollm2.SmolLM2(path, name, mmproj),
    )


def embedder() -> roles.TextEmbedder:
    """Return MiniLM. The first call loads it."""
    return _load_once("embedder", MiniLM)


def warm_embedder() -> None:
    """Load MiniLM, with its vocabulary, and make its first run, which takes longer than others."""
    embedder().embed(["warm"], dimensions=384, pooling="mean", is_cancelled=lambda: False)


def reranker() -> roles.Reranker:
    """Return the reranker that compares MiniLM's vectors."""
    return _load_once("reranker", lambda: CosineReranker(embedder()))


def classifier() -> roles.TextClassifier:
    """Return VADER."""
    return _load_once("classifier", Vader)


def summarizer() -> roles.TextSummarizer:
    """Return TextRank."""
    return _load_once("summarizer", TextRank)


def speech_recognizer() -> roles.SpeechRecognizer:
    """Return Moonshine. The first call loads it."""
    return _load_once("speech recognizer", lambda: Moonshine(*_find_weights(weights.MOONSHINE)))


def speech_detector() -> Silero:
    """Return Silero. The first call loads it."""
    return _load_once("speech detector", lambda: Silero(_find_weights(weights.TURNS)[0]))


def turn_detector() -> SmartTurn:
    """Return Smart Turn. The first call loads it."""
    return _load_once("turn detector", lambda: SmartTurn(_find_weights(weights.TURNS)[1]))


def speaker() -> roles.Speaker:
    """Return Hibari. The first call loads it."""
    return _load_once("speaker", Hibari)


def image_classifier() -> EfficientNet:
    """Return EfficientNet-Lite0."""
    return _load_once(
        "image classifier", lambda: EfficientNet(*_find_weights(weights.EFFICIENTNET))
    )


def object_detector() -> NanoDet:
    """Return NanoDet."""
    return _load_once("object detector", lambda: NanoDet(*_find_weights(weights.NANODET)))


def describer() -> Describer:
    """Return what writes a sentence about an image."""
    return _load_once(
        "describer",
        lambda: Describer(
            image_classifier(),
            object_detector(),
            PaddleOcr(*_find_weights(weights.PADDLE_OCR)),
        ),
    )


def image_embedder() -> ConvexEmbedder:
    """Return the embedder of images, whose vectors compare with MiniLM's."""
    return _load_once("image embedder", lambda: ConvexEmbedder(image_classifier(), embedder()))


def check_sound_library() -> None:
    """Check that sound files can be read and written.

    Raises:
        ApiError: They cannot.
    """
    if find_spec("soundfile") is None:
        raise not_supported("this needs soundfile: pip install 'cfai-sdk[speech]'")


def _load_once(name: str, load: Callable[[], T]) -> T:
    if name not in _loaded:
        # One at a time: loading a model twice would take its memory twice.
        with _loading:
            try:
                _loaded[name] = _loaded.get(name) or load()
                _release_memory()
            except ImportError as exc:
                extra = _EXTRAS.get(exc.name or "", "local")
                message = f"this needs {exc.name}: pip install 'cfai-sdk[{extra}]'"
                raise not_supported(message) from exc
    shared: T = _loaded[name]
    return shared


def _release_memory() -> None:
    """Return freed memory to the system: loading a model takes up to three times its size.

    Only glibc keeps so much of it; other libraries have no such function.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _load_smollm2() -> roles.TextGenerator:
    (path,) = _find_weights(weights.SMOLLM2)
    return smollm2.SmolLM2(path)


def _find_weights(model: weights.Weights) -> tuple[Path, ...]:
    """Return the files of a model.

    Raises:
        ApiError: They were not downloaded.
    """
    paths = weights.find(model)
    if paths is None:
        task = next(task for task, models in weights.BY_TASK.items() if model in models)
        raise not_supported(
            f"the weights of {model.name} are missing: download them with `cfai pull {task}`"
        )
    return paths
