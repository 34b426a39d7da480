"""cfai: Cloudflare Workers AI for asyncio.

The face of the package: it hands names on, each from its module when it is first asked for
(PEP 562), so that `import cfai` costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

from cfai._lazy import Face

if TYPE_CHECKING:
    from cfai._session.limits import Adaptive as Adaptive
    from cfai._session.pagination import (
        Pager as Pager,
    )
    from cfai._version import __version__ as __version__
    from cfai.cohere import (
        Cohere as Cohere,
    )
    from cfai.conversation import (
        Conversation as Conversation,
    )
    from cfai.embedding import (
        EmbeddedBatch as EmbeddedBatch,
        EmbeddingJob as EmbeddingJob,
        EmbedFailure as EmbedFailure,
        JobOptions as JobOptions,
        JobStats as JobStats,
        Progress as Progress,
    )
    from cfai.errors import (
        AnswerTooLarge as AnswerTooLarge,
        AuthenticationError as AuthenticationError,
        BadRequest as BadRequest,
        CapacityExceeded as CapacityExceeded,
        CfaiError as CfaiError,
        ConfigError as ConfigError,
        Conflict as Conflict,
        ConnectError as ConnectError,
        ConnectionLost as ConnectionLost,
        DecodeError as DecodeError,
        InputError as InputError,
        MethodNotAllowed as MethodNotAllowed,
        MissingExtra as MissingExtra,
        NotFound as NotFound,
        ParseError as ParseError,
        PermissionDenied as PermissionDenied,
        QuotaExceeded as QuotaExceeded,
        RateLimited as RateLimited,
        RequestTimeout as RequestTimeout,
        RequestTooLarge as RequestTooLarge,
        ServerError as ServerError,
        ServiceTimeout as ServiceTimeout,
        StatusError as StatusError,
        StreamInterrupted as StreamInterrupted,
        StreamUnsupported as StreamUnsupported,
        ToolLoopExceeded as ToolLoopExceeded,
        TransportError as TransportError,
        UploadInterrupted as UploadInterrupted,
    )
    from cfai.media import (
        Base64 as Base64,
        MediaForm as MediaForm,
    )
    from cfai.meta import (
        Meta as Meta,
    )
    from cfai.resources.finetunes import (
        Finetune as Finetune,
        FinetuneAsset as FinetuneAsset,
        Finetunes as Finetunes,
    )
    from cfai.resources.markdown import (
        Markdown as Markdown,
        MarkdownFormat as MarkdownFormat,
    )
    from cfai.resources.models import (
        Author as Author,
        Model as Model,
        Models as Models,
        ModelSchema as ModelSchema,
        ModelTask as ModelTask,
        Price as Price,
    )
    from cfai.resources.queue import (
        QueuedBatch as QueuedBatch,
        QueuedItem as QueuedItem,
    )
    from cfai.settings import (
        Gateway as Gateway,
        Options as Options,
        Polling as Polling,
        Retries as Retries,
        Retry as Retry,
        Timeouts as Timeouts,
    )
    from cfai.streaming.stream import TokenStream as TokenStream
    from cfai.tasks import (
        Answer as Answer,
        Audio as Audio,
        AutomaticSpeechRecognition as AutomaticSpeechRecognition,
        Binary as Binary,
        Box as Box,
        CodeFunction as CodeFunction,
        Description as Description,
        Detection as Detection,
        Detections as Detections,
        Embeddings as Embeddings,
        Function as Function,
        Image as Image,
        ImageClassification as ImageClassification,
        ImagePart as ImagePart,
        ImagePrompt as ImagePrompt,
        ImageTextToText as ImageTextToText,
        ImageToText as ImageToText,
        Label as Label,
        Labels as Labels,
        Message as Message,
        MultimodalEmbeddings as MultimodalEmbeddings,
        ObjectDetection as ObjectDetection,
        Prompt as Prompt,
        Ranked as Ranked,
        Ranking as Ranking,
        Rerank as Rerank,
        ResponseFormat as ResponseFormat,
        Result as Result,
        Segment as Segment,
        SpeechSynthesis as SpeechSynthesis,
        Summarization as Summarization,
        Summary as Summary,
        Task as Task,
        Text as Text,
        TextClassification as TextClassification,
        TextEmbeddings as TextEmbeddings,
        TextGeneration as TextGeneration,
        TextPart as TextPart,
        TextToImage as TextToImage,
        TextToSpeech as TextToSpeech,
        Token as Token,
        Tool as Tool,
        ToolCall as ToolCall,
        ToolCallDelta as ToolCallDelta,
        Transcript as Transcript,
        Translated as Translated,
        Translation as Translation,
        Usage as Usage,
        Word as Word,
        assistant as assistant,
        system as system,
        tool_result as tool_result,
        user as user,
    )
    from cfai.tools import (
        AnyTool as AnyTool,
        PythonTool as PythonTool,
        Step as Step,
        ToolEvent as ToolEvent,
        ToolFailed as ToolFailed,
        ToolOutcome as ToolOutcome,
        ToolReturned as ToolReturned,
        ToolRun as ToolRun,
        ToolStarted as ToolStarted,
        Turn as Turn,
    )
    from cfai.workers_ai import (
        WorkersAI as WorkersAI,
    )

_face = Face(
    __name__,
    {
        "cfai._session.pagination": "Pager",
        "cfai.resources.finetunes": "Finetune FinetuneAsset Finetunes",
        "cfai.resources.markdown": "Markdown MarkdownFormat",
        "cfai.resources.models": "Author Model ModelSchema ModelTask Models Price",
        "cfai.resources.queue": "QueuedBatch QueuedItem",
        "cfai._session.limits": "Adaptive",
        "cfai.streaming.stream": "TokenStream",
        "cfai.tools": (
            "AnyTool PythonTool Step ToolEvent ToolFailed ToolOutcome ToolReturned ToolRun "
            "ToolStarted Turn"
        ),
        "cfai._version": "__version__",
        "cfai.cohere": "Cohere",
        "cfai.conversation": "Conversation",
        "cfai.embedding": "EmbedFailure EmbeddedBatch EmbeddingJob JobOptions JobStats Progress",
        "cfai.errors": (
            "AnswerTooLarge AuthenticationError BadRequest CapacityExceeded CfaiError ConfigError "
            "Conflict ConnectError ConnectionLost DecodeError InputError MethodNotAllowed "
            "MissingExtra NotFound ParseError PermissionDenied QuotaExceeded RateLimited "
            "RequestTimeout RequestTooLarge ServerError ServiceTimeout StatusError "
            "StreamInterrupted StreamUnsupported ToolLoopExceeded TransportError UploadInterrupted"
        ),
        "cfai.media": "Base64 MediaForm",
        "cfai.meta": "Meta",
        "cfai.settings": "Gateway Options Polling Retries Retry Timeouts",
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
    },
)

__all__ = _face.names  # noqa: PLE0605  # a list of texts, though no literal one


def __getattr__(name: str) -> Any:
    return _face.load(name)


def __dir__() -> list[str]:
    return _face.listed()
