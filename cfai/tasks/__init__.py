"""Tasks (the inputs of models) and answers. How they are sent is not in here.

Answers are imported at once, tasks when they are first used.
"""

from typing import TYPE_CHECKING, Any

from cfai._lazy import Face
from cfai.tasks.answers import (
    Audio as Audio,
    Binary as Binary,
    Box as Box,
    Description as Description,
    Detection as Detection,
    Detections as Detections,
    Embeddings as Embeddings,
    Image as Image,
    Label as Label,
    Labels as Labels,
    Ranked as Ranked,
    Ranking as Ranking,
    Result as Result,
    Segment as Segment,
    Summary as Summary,
    Text as Text,
    Token as Token,
    ToolCall as ToolCall,
    ToolCallDelta as ToolCallDelta,
    Transcript as Transcript,
    Translated as Translated,
    Usage as Usage,
    Word as Word,
)
from cfai.tasks.base import (
    Answer as Answer,
    MediaTask as MediaTask,
    Task as Task,
    rules as rules,
    texts_of as texts_of,
)
from cfai.tasks.fields import Rule as Rule

if TYPE_CHECKING:
    from cfai.tasks.embeddings import (
        MultimodalEmbeddings as MultimodalEmbeddings,
        Pooling as Pooling,
        Rerank as Rerank,
        TextEmbeddings as TextEmbeddings,
    )
    from cfai.tasks.language import (
        Prompt as Prompt,
        Summarization as Summarization,
        TextClassification as TextClassification,
        TextGeneration as TextGeneration,
        Translation as Translation,
    )
    from cfai.tasks.media import (
        AutomaticSpeechRecognition as AutomaticSpeechRecognition,
        ImageClassification as ImageClassification,
        ImagePrompt as ImagePrompt,
        ImageTextToText as ImageTextToText,
        ImageToText as ImageToText,
        ObjectDetection as ObjectDetection,
        SpeechSynthesis as SpeechSynthesis,
        TextToImage as TextToImage,
        TextToSpeech as TextToSpeech,
    )
    from cfai.tasks.messages import (
        ImagePart as ImagePart,
        Message as Message,
        Part as Part,
        TextPart as TextPart,
        assistant as assistant,
        system as system,
        tool_result as tool_result,
        user as user,
    )
    from cfai.tasks.tools import (
        CodeFunction as CodeFunction,
        Function as Function,
        ResponseFormat as ResponseFormat,
        Tool as Tool,
    )

_face = Face(
    __name__,
    {
        "cfai.tasks.answers": (
            "Audio Binary Box Description Detection Detections Embeddings Image Label Labels "
            "Ranked Ranking Result Segment Summary Text Token ToolCall ToolCallDelta Transcript "
            "Translated Usage Word"
        ),
        "cfai.tasks.base": "Answer MediaTask Task rules texts_of",
        "cfai.tasks.embeddings": "MultimodalEmbeddings Pooling Rerank TextEmbeddings",
        "cfai.tasks.fields": "Rule",
        "cfai.tasks.language": "Prompt Summarization TextClassification TextGeneration Translation",
        "cfai.tasks.media": (
            "AutomaticSpeechRecognition ImageClassification ImagePrompt ImageTextToText "
            "ImageToText ObjectDetection SpeechSynthesis TextToImage TextToSpeech"
        ),
        "cfai.tasks.messages": "ImagePart Message Part TextPart assistant system tool_result user",
        "cfai.tasks.tools": "CodeFunction Function ResponseFormat Tool",
    },
)

__all__ = _face.names  # noqa: PLE0605  # a list of texts, though no literal one


def __getattr__(name: str) -> Any:
    return _face.load(name)


def __dir__() -> list[str]:
    return _face.listed()
