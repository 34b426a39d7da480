"""cfai: Cloudflare Workers AI for asyncio.

The face of the package: it hands names on, each from its module when it is first asked for
(PEP 562), so that `import cfai` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfai._tokens import (
        TokenStream as TokenStream,
    )
    from cfai.errors import (
        AnswerTooLarge as AnswerTooLarge,
    )
    from cfai.errors import (
        AuthenticationError as AuthenticationError,
    )
    from cfai.errors import (
        BadRequest as BadRequest,
    )
    from cfai.errors import (
        CapacityExceeded as CapacityExceeded,
    )
    from cfai.errors import (
        CfaiError as CfaiError,
    )
    from cfai.errors import (
        ConfigError as ConfigError,
    )
    from cfai.errors import (
        Conflict as Conflict,
    )
    from cfai.errors import (
        ConnectError as ConnectError,
    )
    from cfai.errors import (
        ConnectionLost as ConnectionLost,
    )
    from cfai.errors import (
        DecodeError as DecodeError,
    )
    from cfai.errors import (
        InputError as InputError,
    )
    from cfai.errors import (
        MethodNotAllowed as MethodNotAllowed,
    )
    from cfai.errors import (
        MissingExtra as MissingExtra,
    )
    from cfai.errors import (
        NotFound as NotFound,
    )
    from cfai.errors import (
        PermissionDenied as PermissionDenied,
    )
    from cfai.errors import (
        QuotaExceeded as QuotaExceeded,
    )
    from cfai.errors import (
        RateLimited as RateLimited,
    )
    from cfai.errors import (
        RequestTimeout as RequestTimeout,
    )
    from cfai.errors import (
        RequestTooLarge as RequestTooLarge,
    )
    from cfai.errors import (
        ServerError as ServerError,
    )
    from cfai.errors import (
        ServiceTimeout as ServiceTimeout,
    )
    from cfai.errors import (
        StatusError as StatusError,
    )
    from cfai.errors import (
        StreamInterrupted as StreamInterrupted,
    )
    from cfai.errors import (
        StreamUnsupported as StreamUnsupported,
    )
    from cfai.errors import (
        TransportError as TransportError,
    )
    from cfai.media import (
        Base64 as Base64,
    )
    from cfai.media import (
        MediaForm as MediaForm,
    )
    from cfai.meta import (
        Meta as Meta,
    )
    from cfai.settings import (
        Gateway as Gateway,
    )
    from cfai.settings import (
        Options as Options,
    )
    from cfai.settings import (
        Retries as Retries,
    )
    from cfai.settings import (
        Retry as Retry,
    )
    from cfai.settings import (
        Timeouts as Timeouts,
    )
    from cfai.tasks import (
        Answer as Answer,
    )
    from cfai.tasks import (
        Audio as Audio,
    )
    from cfai.tasks import (
        AutomaticSpeechRecognition as AutomaticSpeechRecognition,
    )
    from cfai.tasks import (
        Binary as Binary,
    )
    from cfai.tasks import (
        Box as Box,
    )
    from cfai.tasks import (
        CodeFunction as CodeFunction,
    )
    from cfai.tasks import (
        Description as Description,
    )
    from cfai.tasks import (
        Detection as Detection,
    )
    from cfai.tasks import (
        Detections as Detections,
    )
    from cfai.tasks import (
        Embeddings as Embeddings,
    )
    from cfai.tasks import (
        Function as Function,
    )
    from cfai.tasks import (
        Image as Image,
    )
    from cfai.tasks import (
        ImageClassification as ImageClassification,
    )
    from cfai.tasks import (
        ImagePart as ImagePart,
    )
    from cfai.tasks import (
        ImagePrompt as ImagePrompt,
    )
    from cfai.tasks import (
        ImageTextToText as ImageTextToText,
    )
    from cfai.tasks import (
        ImageToText as ImageToText,
    )
    from cfai.tasks import (
        Label as Label,
    )
    from cfai.tasks import (
        Labels as Labels,
    )
    from cfai.tasks import (
        Message as Message,
    )
    from cfai.tasks import (
        MultimodalEmbeddings as MultimodalEmbeddings,
    )
    from cfai.tasks import (
        ObjectDetection as ObjectDetection,
    )
    from cfai.tasks import (
        Prompt as Prompt,
    )
    from cfai.tasks import (
        Ranked as Ranked,
    )
    from cfai.tasks import (
        Ranking as Ranking,
    )
    from cfai.tasks import (
        Rerank as Rerank,
    )
    from cfai.tasks import (
        ResponseFormat as ResponseFormat,
    )
    from cfai.tasks import (
        Result as Result,
    )
    from cfai.tasks import (
        Segment as Segment,
    )
    from cfai.tasks import (
        SpeechSynthesis as SpeechSynthesis,
    )
    from cfai.tasks import (
        Summarization as Summarization,
    )
    from cfai.tasks import (
        Summary as Summary,
    )
    from cfai.tasks import (
        Task as Task,
    )
    from cfai.tasks import (
        Text as Text,
    )
    from cfai.tasks import (
        TextClassification as TextClassification,
    )
    from cfai.tasks import (
        TextEmbeddings as TextEmbeddings,
    )
    from cfai.tasks import (
        TextGeneration as TextGeneration,
    )
    from cfai.tasks import (
        TextPart as TextPart,
    )
    from cfai.tasks import (
        TextToImage as TextToImage,
    )
    from cfai.tasks import (
        TextToSpeech as TextToSpeech,
    )
    from cfai.tasks import (
        Token as Token,
    )
    from cfai.tasks import (
        Tool as Tool,
    )
    from cfai.tasks import (
        ToolCall as ToolCall,
    )
    from cfai.tasks import (
        ToolCallDelta as ToolCallDelta,
    )
    from cfai.tasks import (
        Transcript as Transcript,
    )
    from cfai.tasks import (
        Translated as Translated,
    )
    from cfai.tasks import (
        Translation as Translation,
    )
    from cfai.tasks import (
        Usage as Usage,
    )
    from cfai.tasks import (
        Word as Word,
    )
    from cfai.tasks import (
        assistant as assistant,
    )
    from cfai.tasks import (
        system as system,
    )
    from cfai.tasks import (
        tool_result as tool_result,
    )
    from cfai.tasks import (
        user as user,
    )
    from cfai.workers_ai import (
        WorkersAI as WorkersAI,
    )

_HOMES = {
    "cfai._tokens": "TokenStream",
    "cfai.errors": (
        "AnswerTooLarge AuthenticationError BadRequest CapacityExceeded CfaiError ConfigError "
        "Conflict ConnectError ConnectionLost DecodeError InputError MethodNotAllowed "
        "MissingExtra NotFound PermissionDenied QuotaExceeded RateLimited RequestTimeout "
        "RequestTooLarge ServerError ServiceTimeout StatusError StreamInterrupted "
        "StreamUnsupported TransportError"
    ),
    "cfai.media": "Base64 MediaForm",
    "cfai.meta": "Meta",
    "cfai.settings": "Gateway Options Retries Retry Timeouts",
    "cfai.tasks": (
        "Answer Audio AutomaticSpeechRecognition Binary Box CodeFunction Description "
        "Detection Detections Embeddings Function Image ImageClassification ImagePart "
        "ImagePrompt ImageTextToText ImageToText Label Labels Message MultimodalEmbeddings "
        "ObjectDetection Prompt Ranked Ranking Rerank ResponseFormat Result Segment "
        "SpeechSynthesis Summarization Summary Task Text TextClassification TextEmbeddings "
        "TextGeneration TextPart TextToImage TextToSpeech Token Tool ToolCall ToolCallDelta "
        "Transcript Translated Translation Usage Word assistant system tool_result user"
    ),
    "cfai.workers_ai": "WorkersAI",
}
"""Which module each name is from."""

_MODULES = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_MODULES)  # noqa: PLE0605  # a list of texts, though no literal one


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'cfai' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
