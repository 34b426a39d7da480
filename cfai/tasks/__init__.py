"""What a model is asked, and what it answers: values, without a word on how they travel.

The answers are here at once, the inputs when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

from cfai._lazy import Face
from cfai.tasks._base import (
    Answer as Answer,
    MediaTask as MediaTask,
    Task as Task,
    rules as rules,
    texts_of as texts_of,
)
from cfai.tasks._media_answers import (
    Audio as Audio,
    Binary as Binary,
    Image as Image,
    Segment as Segment,
    Transcript as Transcript,
    Word as Word,
)
from cfai.tasks._rule import (
    Rule as Rule,
)
from cfai.tasks._text_answers import (
    Description as Description,
    Result as Result,
    Summary as Summary,
    Text as Text,
    Token as Token,
    ToolCall as ToolCall,
    ToolCallDelta as ToolCallDelta,
    Translated as Translated,
    Usage as Usage,
)
from cfai.tasks._vector_answers import (
    Box as Box,
    Detection as Detection,
    Detections as Detections,
    Embeddings as Embeddings,
    Label as Label,
    Labels as Labels,
    Ranked as Ranked,
    Ranking as Ranking,
)

if TYPE_CHECKING:
    from cfai.tasks.audio import (
        AutomaticSpeechRecognition as AutomaticSpeechRecognition,
        SpeechSynthesis as SpeechSynthesis,
        TextToSpeech as TextToSpeech,
    )
    from cfai.tasks.embeddings import (
        MultimodalEmbeddings as MultimodalEmbeddings,
        Pooling as Pooling,
        Rerank as Rerank,
        TextEmbeddings as TextEmbeddings,
    )
    from cfai.tasks.images import (
        TextToImage as TextToImage,
    )
    from cfai.tasks.language import (
        Prompt as Prompt,
        Summarization as Summarization,
        TextClassification as TextClassification,
        TextGeneration as TextGeneration,
        Translation as Translation,
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
    from cfai.tasks.vision import (
        ImageClassification as ImageClassification,
        ImagePrompt as ImagePrompt,
        ImageTextToText as ImageTextToText,
        ImageToText as ImageToText,
        ObjectDetection as ObjectDetection,
    )

_face = Face(
    __name__,
    {
        "cfai.tasks._base": "Answer MediaTask Task rules texts_of",
        "cfai.tasks._media_answers": "Audio Binary Image Segment Transcript Word",
        "cfai.tasks._rule": "Rule",
        "cfai.tasks._text_answers": (
            "Description Result Summary Text Token ToolCall ToolCallDelta Translated Usage"
        ),
        "cfai.tasks._vector_answers": (
            "Box Detection Detections Embeddings Label Labels Ranked Ranking"
        ),
        "cfai.tasks.audio": "AutomaticSpeechRecognition SpeechSynthesis TextToSpeech",
        "cfai.tasks.embeddings": "MultimodalEmbeddings Pooling Rerank TextEmbeddings",
        "cfai.tasks.images": "TextToImage",
        "cfai.tasks.language": "Prompt Summarization TextClassification TextGeneration Translation",
        "cfai.tasks.messages": "ImagePart Message Part TextPart assistant system tool_result user",
        "cfai.tasks.tools": "CodeFunction Function ResponseFormat Tool",
        "cfai.tasks.vision": (
            "ImageClassification ImagePrompt ImageTextToText ImageToText ObjectDetection"
        ),
    },
)

__all__ = _face.names  # noqa: PLE0605  # a list of texts, though no literal one


def __getattr__(name: str) -> Any:
    return _face.load(name)


def __dir__() -> list[str]:
    return _face.listed()
