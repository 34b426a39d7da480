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
        generation,
        language,
        media,
        messages,
        task,
        tools,
    )

_EXPORTS = {
    "cfai.tasks.answers": "Audio Binary Description Embeddings Image Token ToolCallDelta",
    "cfai.tasks.classes": "Decided Extracted",
    "cfai.tasks.decisions": (
        "Choice ChoiceDecision Decide Decision Decisions Noul NoulDecision Question Score "
        "ScoreDecision"
    ),
    "cfai.tasks.embeddings": "MultimodalEmbeddings Pooling Ranked Ranking Rerank TextEmbeddings",
    "cfai.tasks.extraction": (
        "DateField DateTimeField DurationField Estimate EstimateField Extract ExtractedField "
        "Extraction ExtractionField ForecastField ListField NumberField TextField TimeField"
    ),
    "cfai.tasks.generation": "Generation Prompt ResponseFormat Result Text ToolCall Usage",
    "cfai.tasks.language": (
        "Label Labels Summarization Summary TextClassification TextGeneration Translated "
        "Translation"
    ),
    "cfai.tasks.media": (
        "AutomaticSpeechRecognition Box Detection Detections ImageClassification ImagePrompt "
        "ImageTextToText ImageToText ObjectDetection Segment SpeechSynthesis TextToImage "
        "TextToSpeech Transcript Word"
    ),
    "cfai.tasks.messages": "ImagePart Message Part TextPart assistant system tool_result user",
    "cfai.tasks.task": "Answer MediaTask Rule Task rules texts_of",
    "cfai.tasks.tools": "CodeFunction Function Tool",
}
"""The public names by the modules that define them. After a change, run `python -m tests.stubs`."""

__getattr__, __dir__, __all__ = export(__name__, _EXPORTS)
