"""Backends are loaded once, and what is missing is named."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfai.local import backends


@pytest.mark.usefixtures("speech_weights", "vision_weights")
@pytest.mark.parametrize(
    ("load", "name"),
    [
        (backends.text_generator, "smollm2-135m-q4_1"),
        (backends.embedder, "minilm-int8"),
        (backends.reranker, "minilm-int8"),
        (backends.classifier, "vader"),
        (backends.summarizer, "textrank"),
        (backends.speech_recognizer, "moonshine-tiny-en"),
        (backends.speech_detector, "silero-vad"),
        (backends.turn_detector, "smart-turn-v3.2"),
        (backends.speaker, "hibari"),
        (backends.image_classifier, "efficientnet-lite0"),
        (backends.object_detector, "nanodet"),
        (backends.image_embedder, "conse:efficientnet-lite0+minilm-int8"),
        (backends.describer, "labels-boxes-text:efficientnet-lite0+nanodet+pp-ocrv6"),
    ],
)
def test_each_backend_is_loaded_once(load: Callable[[], Any], name: str) -> None:
    assert load() is load()
    assert load().name == name


MISSING = """
from cfai.local import backends
from cfai.local.errors import ApiError
for load in (
    backends.text_generator,
    backends.speech_recognizer,
    backends.turn_detector,
    backends.object_detector,
    backends.describer,
):
    try:
        load()
    except ApiError as error:
        print(error.status, error.message)
"""


def test_missing_weights_are_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFAI_CACHE", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", MISSING], check=True, capture_output=True, text=True, timeout=60
    )
    models = {
        "SmolLM2-135M-Instruct": "text",
        "Moonshine tiny-en": "speech",
        "Silero VAD, Smart Turn v3.2": "speech",
        "NanoDet": "vision",
        "EfficientNet-Lite0": "vision",
    }
    assert done.stdout.splitlines() == [
        f"501 cfai local: the weights of {name} are missing: download them with `cfai pull {task}`"
        for name, task in models.items()
    ]
