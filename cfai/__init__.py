"""cfai: Cloudflare Workers AI for asyncio."""

from typing import TYPE_CHECKING

from cfai._lazy import export

if TYPE_CHECKING:
    # Tools that freeze programs find modules by the import statements in the bytecode.
    from cfai import (  # noqa: F401
        cohere,
        conversation,
        embedding,
        errors,
        media,
        meta,
        objects,
        settings,
        tasks,
        tools,
        workers_ai,
    )
    from cfai._session import limits, pagination, session  # noqa: F401
    from cfai._wire import version  # noqa: F401
    from cfai.resources import finetunes, markdown, models, queue  # noqa: F401
    from cfai.streaming import audio, listening, speaking, stream  # noqa: F401
    from cfai.tasks import listening as _listening, speaking as _speaking  # noqa: F401

_EXPORTS = {
    "cfai._session.limits": "Adaptive",
    "cfai._session.pagination": "Pager",
    "cfai._session.session": "Spent",
    "cfai._wire.version": "__version__",
    "cfai.cohere": "Cohere",
    "cfai.conversation": "Conversation",
    "cfai.embedding": "EmbedFailure EmbeddedBatch EmbeddingJob JobOptions JobStats Progress",
    "cfai.errors": (
        "AnswerTooLarge AuthenticationError BadRequest BudgetExceeded CapacityExceeded CfaiError "
        "ConfigError Conflict ConnectError ConnectionLost DecodeError InputError MethodNotAllowed "
        "MissingExtra ModelRetired ModelRetiredWarning NotFound ParseError PermissionDenied "
        "QuotaExceeded RateLimited RequestTimeout RequestTooLarge ServerError ServiceTimeout "
        "StatusError StreamInterrupted StreamUnsupported ToolLoopExceeded TransportError "
        "UploadInterrupted"
    ),
    "cfai.media": "Base64 MediaForm",
    "cfai.meta": "Meta",
    "cfai.objects": "ObjectStream",
    "cfai.resources.finetunes": "Finetune FinetuneAsset Finetunes",
    "cfai.resources.markdown": "Markdown MarkdownFormat",
    "cfai.resources.models": "Author Model ModelSchema ModelTask Models Price",
    "cfai.resources.queue": "QueuedBatch QueuedItem",
    "cfai.settings": "Gateway Options Polling Retries Retry Timeouts",
    "cfai.streaming.audio": "AudioStream",
    "cfai.streaming.listening": "Listener",
    "cfai.streaming.speaking": "Speaker",
    "cfai.streaming.stream": "TokenStream",
    "cfai.tasks": (
        "Answer Audio AutomaticSpeechRecognition Binary Box CodeFunction Description Detection "
        "Detections Embeddings Function Image ImageClassification ImagePart ImagePrompt "
        "ImageTextToText ImageToText Label Labels Message MultimodalEmbeddings ObjectDetection "
        "Prompt Ranked Ranking Rerank ResponseFormat Result Segment SpeechSynthesis Summarization "
        "Summary Task Text TextClassification TextEmbeddings TextGeneration TextPart TextToImage "
        "TextToSpeech Token Tool ToolCall ToolCallDelta Transcript Translated Translation Usage "
        "Word assistant system tool_result user "
        "Choice ChoiceDecision Decide Decided Decisions Noul NoulDecision Question Score "
        "ScoreDecision "
        "DateField DateTimeField DurationField Estimate EstimateField Extract Extracted "
        "ExtractedField Extraction ExtractionField ForecastField ListField NumberField TextField "
        "TimeField"
    ),
    "cfai.tasks.listening": (
        "EagerEndOfTurn Final Partial SessionInfo SpeechEvent SpeechStarted SpeechText SpokenWord "
        "TurnEnded TurnResumed TurnStarted UtteranceEnd"
    ),
    "cfai.tasks.speaking": "AudioChunk Cleared Flushed SpeechWarning",
    "cfai.tools": (
        "AnyTool PythonTool Step ToolEvent ToolFailed ToolOutcome ToolReturned ToolRun "
        "ToolStarted Turn"
    ),
    "cfai.workers_ai": "WorkersAI",
}
"""The public names by the modules that define them. After a change, run `python -m tests.stubs`."""

__getattr__, __dir__, __all__ = export(__name__, _EXPORTS)
