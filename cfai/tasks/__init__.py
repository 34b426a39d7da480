"""Tasks (the inputs of models) and answers. How they are sent is not in here."""

from typing import TYPE_CHECKING

from cfai._lazy import export

if TYPE_CHECKING:
    # Tools that freeze programs find modules by the import statements in the bytecode.
    from cfai.tasks import (  # noqa: F401
        answers,
        classes,
        decisions,
        embeddings,
        extraction,
        language,
        media,
        messages,
        task,
        tools,
    )

_EXPORTS = {
    "cfai.tasks.answers": (
        "Audio Binary Box Description Detection Detections Embeddings Image Label Labels "
        "Ranked Ranking Result Segment Summary Text Token ToolCall ToolCallDelta Transcript "
        "Translated Usage Word"
    ),
    "cfai.tasks.classes": "Decided Extracted",
    "cfai.tasks.decisions": (
        "Choice ChoiceDecision Decide Decision Decisions Noul NoulDecision Question Score "
        "ScoreDecision"
    ),
    "cfai.tasks.embeddings": "MultimodalEmbeddings Pooling Rerank TextEmbeddings",
    "cfai.tasks.extraction": (
        "DateField DateTimeField DurationField Estimate EstimateField Extract ExtractedField "
        "Extraction ExtractionField ForecastField ListField NumberField TextField TimeField"
    ),
    "cfai.tasks.language": "Prompt Summarization TextClassification TextGeneration Translation",
    "cfai.tasks.media": (
        "AutomaticSpeechRecognition ImageClassification ImagePrompt ImageTextToText "
        "ImageToText ObjectDetection SpeechSynthesis TextToImage TextToSpeech"
    ),
    "cfai.tasks.messages": "ImagePart Message Part TextPart assistant system tool_result user",
    "cfai.tasks.task": "Answer MediaTask Rule Task rules texts_of",
    "cfai.tasks.tools": "CodeFunction Function ResponseFormat Tool",
}
"""The public names by the modules that define them. After a change, run `python -m tests.stubs`."""

__getattr__, __dir__, __all__ = export(__name__, _EXPORTS)
