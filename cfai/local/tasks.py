"""Which model answers which task of the service on this machine, and how well. For the docs."""

from attrs import frozen

from cfai.local.handlers.cards import TEST_CARD
from cfai.local.weights import EFFICIENTNET, MOONSHINE, NANODET, PADDLE_OCR, SMOLLM2, TURNS


@frozen
class LocalTask:
    """A task of the service and what answers it."""

    task: str
    """The service's name, or one of `ServedModel.task`."""
    backend: str
    """The name in the header `cfai-backend`."""
    model: str
    licence: str
    size: int
    """In bytes, on disk, without libraries."""
    quality: str
    extra: str = "local"


_MINILM_SIZE = 23_000_000
_HIBARI_SIZE = 16_000_000

LOCAL_TASKS = (
    LocalTask(
        "Text Generation",
        "smollm2-135m-q4_1",
        f"{SMOLLM2.name}, 4 bits: prompts, chats, streams, JSON schemas, tools",
        SMOLLM2.licence,
        SMOLLM2.size,
        "fluent, often wrong: 16 of 22 questions of general knowledge are answered right",
    ),
    LocalTask(
        "Text Embeddings",
        "minilm-int8",
        "all-MiniLM-L6-v2, 8 bits",
        "Apache-2.0",
        _MINILM_SIZE,
        "English sentences; 18 of 21 with the same meaning are nearer than with the same words",
    ),
    LocalTask(
        "Reranking",
        "minilm-int8",
        "the same vectors, compared",
        "Apache-2.0",
        _MINILM_SIZE,
        "that of the vectors: 21 of 21 answers are ranked first of four",
    ),
    LocalTask(
        "Text Classification",
        "vader",
        "VADER, a lexicon with rules",
        "Apache-2.0",
        400_000,
        "fast; 21 of 24 reviews right, no irony; at most 20,000 characters",
    ),
    LocalTask(
        "Summarization",
        "textrank",
        "TextRank, which selects the most central sentences of the text",
        "this project's",
        0,
        "no new words; 14 of 20 have the key sentence; at most 100,000 characters",
    ),
    LocalTask(
        "Image Classification",
        "efficientnet-lite0",
        EFFICIENTNET.name,
        EFFICIENTNET.licence,
        EFFICIENTNET.size,
        "24 of 24 easy photos right; the 1,000 labels of ImageNet",
        "vision",
    ),
    LocalTask(
        "Object Detection",
        "nanodet",
        NANODET.name,
        NANODET.licence,
        NANODET.size,
        "28 of 30 objects right; the 80 classes of COCO",
        "vision",
    ),
    LocalTask(
        "Image-to-Text",
        "labels-boxes-text:…",
        f"a sentence from the labels, the objects and the text that {PADDLE_OCR.name} reads",
        PADDLE_OCR.licence,
        PADDLE_OCR.size,
        "24 of 24 drawn lines read; no questions are answered",
        "vision",
    ),
    LocalTask(
        "Text-to-Image",
        TEST_CARD,
        "none; with `--test-card`, a drawn card that says so",
        "this project's",
        0,
        "no image of the prompt, but its text",
        "vision",
    ),
    LocalTask(
        "Automatic Speech Recognition",
        "moonshine-tiny-en",
        f"{MOONSHINE.name}, between pauses that Silero VAD finds",
        MOONSHINE.licence,
        MOONSHINE.size + TURNS.files[0].size,
        "English only; 24 of 24 sentences of the local voice word for word",
        "speech",
    ),
    LocalTask(
        "Text-to-Speech",
        "hibari",
        "Hibari, distilled from Kokoro-82M",
        "Apache-2.0",
        _HIBARI_SIZE,
        "one clear American voice; 24 of 24 sentences are understood word for word",
        "speech",
    ),
    LocalTask(
        "Voice Activity Detection",
        "smart-turn-v3.2",
        "Smart Turn v3.2, the end of a turn",
        "BSD-2-Clause",
        TURNS.files[1].size,
        "43 of 48 right: 24 spoken sentences, whole and cut in the middle",
        "speech",
    ),
)
"""One for each task that has a local model."""
