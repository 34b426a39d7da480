"""Known models: their tasks, the form of their media, and their limits.

These are defaults, which the service may have changed since; arguments such as `media_form`
override them.
"""

import sys
import warnings
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from cfai._types.values import Value
from cfai.errors import InputError, ModelRetired, ModelRetiredWarning
from cfai.media import MediaForm
from cfai.settings import Route

__all__ = [
    "TASKS",
    "Profile",
    "check_reads_images",
    "identify_retired_model",
    "is_gateway_route",
    "models",
    "profile",
    "warn_if_retired",
]


@frozen(eq=False, repr=False)
class Profile(Value):
    """Known facts about one model. `None` means unknown or unlimited."""

    model: str
    task: str | None = None
    """The service's name of its task, such as "Text Generation"; `None` for an unknown model."""

    retired: date | None = None
    """The day on which the service retired it; `None` for a live or unknown model."""
    successor: str | None = None
    """The model that replaces a retired one, if Cloudflare named one."""
    media: MediaForm = MediaForm.INTEGERS
    """The form of its media; for an unknown model, the form in the API's schema.

    A raw body cannot contain other fields. If a task has any, integers are sent instead, unless
    `options_in_query`.
    """

    raw_type: str | None = None
    """The Content-Type of a raw body; `None` is the detected type of the media."""

    field_names: Mapping[str, str | None] = field(default=MappingProxyType({}), hash=False)
    """Its names of the fields that tasks call otherwise; `None` for a field that it does not
    have."""

    queue_field_names: Mapping[str, str | None] = field(default=MappingProxyType({}), hash=False)
    """The same for its queue, if that takes other fields."""

    default_fields: Mapping[str, Any] = field(default=MappingProxyType({}), hash=False)
    """Fields that are sent unless the task sets them."""

    options_in_query: bool = False
    """Whether the other fields are sent in the query string of a request with a raw body."""

    websocket_only: bool = False
    """Whether it only answers over WebSockets, which the SDK does not support."""

    texts_per_request: int | None = None
    """How many texts it embeds per request."""

    tokens_per_text: int | None = None
    """The maximum length of one text, in tokens."""

    tokens_per_request: int | None = None
    """The maximum length of all texts of a request together, in tokens."""

    english: bool = False
    """Whether it embeds English, with the vocabulary of BERT."""

    dimension: int | None = None
    """The dimension of its vectors."""

    requests_per_minute: int | None = None
    """How many requests per minute the service accepts from an account."""

    shares_requests_with: str | None = None
    """What `requests_per_minute` applies to: all models of a task, or this model alone."""

    guided_json: bool = False
    """Whether it needs a JSON schema as `guided_json` instead of in `response_format`."""

    route: Route = "run"
    """The path that it is run on, unless `Options.route` names another."""

    thinking_switches: tuple[str, ...] = ()
    """The names in `chat_template_kwargs` that turn its thinking on and off."""

    always_thinks: bool = False
    """Whether it thinks before each text, and can't be told not to."""

    reads_images: bool | None = None
    """Whether it reads images in the messages of a chat; `None` if nothing tells it."""

    reads_calls: bool = False
    """Whether its earlier tool calls must also be sent as text, to make sense of their results."""


# Written by `python docs/catalogue.py`; see there for the sources. After the name stands whether a
# chat model reads images or only text, if that is known. A model that is not listed may exist: only
# defaults, the warning about retired models and the check of images depend on this.
# <catalogue>
_MODELS = {
    "Automatic Speech Recognition": """
        @cf/deepgram/flux
        @cf/deepgram/nova-3
        @cf/nvidia/nemotron-speech-streaming-en-0.6b
        @cf/openai/whisper
        @cf/openai/whisper-large-v3-turbo
        @cf/openai/whisper-tiny-en
    """,
    "Image Classification": """
        @cf/microsoft/resnet-50
    """,
    "Image-to-Text": """
        @cf/llava-hf/llava-1.5-7b-hf
        @cf/moondream/moondream3.1-9B-A2B
        @cf/unum/uform-gen2-qwen-500m
    """,
    "Object Detection": """
        @cf/facebook/detr-resnet-50
    """,
    "Summarization": """
        @cf/facebook/bart-large-cnn
    """,
    "Text Classification": """
        @cf/baai/bge-reranker-base
        @cf/huggingface/distilbert-sst-2-int8
    """,
    "Text Embeddings": """
        @cf/baai/bge-base-en-v1.5
        @cf/baai/bge-large-en-v1.5
        @cf/baai/bge-m3
        @cf/baai/bge-small-en-v1.5
        @cf/baai/omni-bge-base-en-v1.5
        @cf/google/embeddinggemma-300m
        @cf/pfnet/plamo-embedding-1b
        @cf/qwen/qwen3-embedding-0.6b
        @cf/qwen/qwen3-vl-embedding-2b
    """,
    "Text Generation": """
        @cf/aisingapore/gemma-sea-lion-v4-27b-it text
        @cf/cloudflare/clairic
        @cf/cloudflare/clairic-flash
        @cf/cloudflare/clef
        @cf/cloudflare/clef-flash
        @cf/cloudflare/clef-omni
        @cf/deepseek-ai/deepseek-math-7b-instruct
        @cf/deepseek-ai/deepseek-r1-distill-qwen-32b text
        @cf/deepseek-ai/deepseek-v4-flash-0731
        @cf/deepseek-ai/deepseek-v4-pro-0813
        @cf/defog/sqlcoder-7b-2
        @cf/fblgit/una-cybertron-7b-v2-bf16
        @cf/google/gemma-2b-it-lora text
        @cf/google/gemma-3-12b-it
        @cf/google/gemma-4-26b-a4b-it images
        @cf/google/gemma-7b-it-lora text
        @cf/ibm-granite/granite-4.0-h-micro text
        @cf/meta-llama/llama-2-7b-chat-hf-lora text
        @cf/meta/llama-2-7b-chat-fp16
        @cf/meta/llama-2-7b-chat-int8
        @cf/meta/llama-3-8b-instruct
        @cf/meta/llama-3-8b-instruct-awq
        @cf/meta/llama-3.1-70b-instruct
        @cf/meta/llama-3.1-8b-instruct
        @cf/meta/llama-3.1-8b-instruct-awq
        @cf/meta/llama-3.1-8b-instruct-fast text
        @cf/meta/llama-3.1-8b-instruct-fp8 text
        @cf/meta/llama-3.2-11b-vision-instruct images
        @cf/meta/llama-3.2-1b-instruct text
        @cf/meta/llama-3.2-3b-instruct text
        @cf/meta/llama-3.3-70b-instruct-fp8-fast text
        @cf/meta/llama-4-scout-17b-16e-instruct images
        @cf/meta/llama-guard-3-8b text
        @cf/microsoft/phi-2
        @cf/mistral/mistral-7b-instruct-v0.1
        @cf/mistral/mistral-7b-instruct-v0.2-lora text
        @cf/mistralai/mistral-small-3.1-24b-instruct images
        @cf/moonshotai/kimi-k2.5
        @cf/moonshotai/kimi-k2.6 images
        @cf/moonshotai/kimi-k2.7-code images
        @cf/nvidia/nemotron-3-120b-a12b
        @cf/openai/gpt-oss-120b
        @cf/openai/gpt-oss-20b
        @cf/openchat/openchat-3.5-0106
        @cf/qwen/qwen1.5-0.5b-chat
        @cf/qwen/qwen1.5-1.8b-chat
        @cf/qwen/qwen1.5-14b-chat-awq
        @cf/qwen/qwen1.5-7b-chat-awq
        @cf/qwen/qwen2.5-coder-32b-instruct text
        @cf/qwen/qwen3-30b-a3b-fp8 text
        @cf/qwen/qwen3.8-27b images
        @cf/qwen/qwq-32b
        @cf/swiss-ai/apertus-v1.5-8b
        @cf/thebloke/discolm-german-7b-v1-awq
        @cf/tiiuae/falcon-7b-instruct
        @cf/tinyllama/tinyllama-1.1b-chat-v1.0
        @cf/utter-project/eurollm-9b-it
        @cf/zai-org/glm-4.7-flash
        @cf/zai-org/glm-5.2
        @cf/zai-org/glm-5.3
        @cf/zai-org/glm-5.3-flash
        @hf/google/gemma-7b-it
        @hf/meta-llama/meta-llama-3-8b-instruct
        @hf/mistral/mistral-7b-instruct-v0.2
        @hf/nexusflow/starling-lm-7b-beta
        @hf/nousresearch/hermes-2-pro-mistral-7b
        @hf/thebloke/deepseek-coder-6.7b-base-awq
        @hf/thebloke/deepseek-coder-6.7b-instruct-awq
        @hf/thebloke/llama-2-13b-chat-awq
        @hf/thebloke/llamaguard-7b-awq
        @hf/thebloke/mistral-7b-instruct-v0.1-awq
        @hf/thebloke/neural-chat-7b-v3-1-awq
        @hf/thebloke/openhermes-2.5-mistral-7b-awq
        @hf/thebloke/zephyr-7b-beta-awq
    """,
    "Text-to-Image": """
        @cf/black-forest-labs/flux-1-schnell
        @cf/black-forest-labs/flux-2-dev
        @cf/black-forest-labs/flux-2-klein-4b
        @cf/black-forest-labs/flux-2-klein-9b
        @cf/bytedance/stable-diffusion-xl-lightning
        @cf/leonardo/lucid-origin
        @cf/leonardo/phoenix-1.0
        @cf/lykon/dreamshaper-8-lcm
        @cf/runwayml/stable-diffusion-v1-5-img2img
        @cf/runwayml/stable-diffusion-v1-5-inpainting
        @cf/stabilityai/stable-diffusion-xl-base-1.0
    """,
    "Text-to-Speech": """
        @cf/deepgram/aura-1
        @cf/deepgram/aura-2-en
        @cf/deepgram/aura-2-es
        @cf/myshell-ai/melotts
    """,
    "Translation": """
        @cf/ai4bharat/indictrans2-en-indic-1B
        @cf/meta/m2m100-1.2b
    """,
    "Voice Activity Detection": """
        @cf/pipecat-ai/smart-turn-v2
    """,
}
_RETIRED = {
    "2025-10-01": """
        @cf/deepseek-ai/deepseek-math-7b-instruct
        @cf/fblgit/una-cybertron-7b-v2-bf16
        @cf/openchat/openchat-3.5-0106
        @cf/qwen/qwen1.5-0.5b-chat
        @cf/qwen/qwen1.5-1.8b-chat
        @cf/qwen/qwen1.5-14b-chat-awq
        @cf/qwen/qwen1.5-7b-chat-awq
        @cf/thebloke/discolm-german-7b-v1-awq
        @cf/tiiuae/falcon-7b-instruct
        @cf/tinyllama/tinyllama-1.1b-chat-v1.0
        @hf/nexusflow/starling-lm-7b-beta
        @hf/thebloke/deepseek-coder-6.7b-base-awq
        @hf/thebloke/deepseek-coder-6.7b-instruct-awq
        @hf/thebloke/llama-2-13b-chat-awq
        @hf/thebloke/llamaguard-7b-awq
        @hf/thebloke/mistral-7b-instruct-v0.1-awq
        @hf/thebloke/neural-chat-7b-v3-1-awq
        @hf/thebloke/openhermes-2.5-mistral-7b-awq
        @hf/thebloke/zephyr-7b-beta-awq
    """,
    "2026-05-30": """
        @cf/defog/sqlcoder-7b-2
        @cf/facebook/bart-large-cnn
        @cf/google/gemma-3-12b-it
        @cf/meta/llama-2-7b-chat-fp16
        @cf/meta/llama-2-7b-chat-int8
        @cf/meta/llama-3-8b-instruct
        @cf/meta/llama-3-8b-instruct-awq
        @cf/meta/llama-3.1-70b-instruct
        @cf/meta/llama-3.1-8b-instruct
        @cf/meta/llama-3.1-8b-instruct-awq
        @cf/microsoft/phi-2
        @cf/mistral/mistral-7b-instruct-v0.1
        @cf/moonshotai/kimi-k2.5
        @cf/unum/uform-gen2-qwen-500m
        @hf/google/gemma-7b-it
        @hf/meta-llama/meta-llama-3-8b-instruct
        @hf/mistral/mistral-7b-instruct-v0.2
        @hf/nousresearch/hermes-2-pro-mistral-7b
    """,
}
_SUCCESSORS = {
    "@cf/moonshotai/kimi-k2.5": "@cf/moonshotai/kimi-k2.6",
}
# </catalogue>

_CATALOGUE = {
    model: (task, reads)
    for task, lines in _MODELS.items()
    for model, _, reads in (line.strip().partition(" ") for line in lines.strip().split("\n"))
}
TASKS = MappingProxyType({model: task for model, (task, _) in _CATALOGUE.items()})
"""The task of each known model, in the service's words: "Text Generation", "Text-to-Image", ..."""

_RETIREMENTS = {
    model: date.fromisoformat(day) for day, models in _RETIRED.items() for model in models.split()
}

# Source: developers.cloudflare.com/workers-ai/platform/limits.
_TASK_REQUESTS = {
    "Automatic Speech Recognition": 720,
    "Image Classification": 3000,
    "Image-to-Text": 720,
    "Object Detection": 3000,
    "Summarization": 1500,
    "Text Classification": 2000,
    "Text Embeddings": 3000,
    "Text Generation": 300,
    "Text-to-Image": 720,
    "Translation": 720,
}
_MODEL_REQUESTS = {
    "@cf/baai/bge-large-en-v1.5": 1500,
    "@cf/baai/bge-reranker-base": None,
    "@cf/runwayml/stable-diffusion-v1-5-img2img": 1500,
}

# Texts per request, tokens per text, and dimension. Source: the models' input schemas and cards, or
# their publishers for dimensions that are not on the card.
_EMBEDDING_LIMITS: dict[str, tuple[int | None, int | None, int]] = {
    "@cf/baai/bge-small-en-v1.5": (100, 512, 384),
    "@cf/baai/bge-base-en-v1.5": (100, 512, 768),
    "@cf/baai/bge-large-en-v1.5": (100, 512, 1024),
    "@cf/baai/omni-bge-base-en-v1.5": (100, 512, 768),
    "@cf/baai/bge-m3": (100, 8192, 1024),
    "@cf/qwen/qwen3-embedding-0.6b": (32, 8192, 1024),
    "@cf/google/embeddinggemma-300m": (None, None, 768),
    "@cf/pfnet/plamo-embedding-1b": (None, None, 2048),
    "@cf/qwen/qwen3-vl-embedding-2b": (None, None, 2048),
}

# Source: live refusals with code 3030: "Sequence too long: 9003 > 8192" is about one text, "Max
# context reached 85920 tokens but model supports only 60000" about all texts of a request.
_REQUEST_TOKENS = {"@cf/baai/bge-m3": 60000}

# Source: the models' input schemas. RAW models accept the bytes as the body, or integers in JSON.
_MODEL_FORMS = {
    "@cf/facebook/detr-resnet-50": MediaForm.RAW,
    "@cf/llava-hf/llava-1.5-7b-hf": MediaForm.RAW,
    "@cf/microsoft/resnet-50": MediaForm.RAW,
    "@cf/openai/whisper": MediaForm.RAW,
    "@cf/openai/whisper-tiny-en": MediaForm.RAW,
    "@cf/deepgram/nova-3": MediaForm.RAW,
    "@cf/moondream/moondream3.1-9B-A2B": MediaForm.DATA_URI,
    "@cf/nvidia/nemotron-speech-streaming-en-0.6b": MediaForm.BASE64,
    "@cf/openai/whisper-large-v3-turbo": MediaForm.BASE64,
    "@cf/pipecat-ai/smart-turn-v2": MediaForm.BASE64,
    "@cf/black-forest-labs/flux-2-dev": MediaForm.MULTIPART,
    "@cf/black-forest-labs/flux-2-klein-4b": MediaForm.MULTIPART,
    "@cf/black-forest-labs/flux-2-klein-9b": MediaForm.MULTIPART,
}
# The API's schema has a field for base64 (`image_b64`) for this task, besides the one for integers.
_TASK_FORMS = {"Text-to-Image": MediaForm.BASE64}

# Source: Cloudflare's OpenAPI document of August 2024, and `format: binary` in the input schemas.
# nova-3 needs the real type (Cloudflare docs, nova-3).
_RAW_TYPES = dict.fromkeys(
    [model for model, form in _MODEL_FORMS.items() if form is MediaForm.RAW],
    "application/octet-stream",
)
del _RAW_TYPES["@cf/deepgram/nova-3"]

# Source: the models' input schemas.
_NO_IMAGE: Mapping[str, str | None] = dict.fromkeys(["image", "image_b64", "mask", "strength"])
_AURA: Mapping[str, str | None] = {"prompt": "text", "lang": None}
_LANGUAGE: Mapping[str, str | None] = {"source_lang": "language", "target_lang": None}
_FLUX_2: Mapping[str, str | None] = {
    **dict.fromkeys(["image_b64", "mask", "strength", "negative_prompt"]),
    "image": "input_image_0",
    "num_steps": "steps",
}
_FIELD_NAMES: Mapping[str, Mapping[str, str | None]] = {
    # It translates from English only.
    "@cf/ai4bharat/indictrans2-en-indic-1B": {
        "target_lang": "target_language",
        "source_lang": None,
    },
    # The schema has no seed, but the example on the model's page sends one.
    "@cf/black-forest-labs/flux-1-schnell": {
        **_NO_IMAGE,
        **dict.fromkeys(["guidance", "height", "negative_prompt", "width"]),
        "num_steps": "steps",
    },
    # The parts of the form, which the schema leaves open. Source: Cloudflare docs, flux-2; the
    # image: public projects that use these models.
    "@cf/black-forest-labs/flux-2-dev": _FLUX_2,
    "@cf/black-forest-labs/flux-2-klein-4b": _FLUX_2,
    "@cf/black-forest-labs/flux-2-klein-9b": _FLUX_2,
    "@cf/deepgram/aura-1": _AURA,
    "@cf/deepgram/aura-2-en": _AURA,
    "@cf/deepgram/aura-2-es": _AURA,
    "@cf/deepgram/nova-3": _LANGUAGE,
    "@cf/leonardo/lucid-origin": {**_NO_IMAGE, "negative_prompt": None},
    "@cf/leonardo/phoenix-1.0": _NO_IMAGE,
    "@cf/moondream/moondream3.1-9B-A2B": {
        "prompt": "question",
        **dict.fromkeys(
            [
                "frequency_penalty",
                "ignore_eos",
                "messages",
                "presence_penalty",
                "raw",
                "repetition_penalty",
                "seed",
                "top_k",
            ]
        ),
    },
    "@cf/myshell-ai/melotts": {
        "text": "prompt",
        **dict.fromkeys(["speaker", "encoding", "container", "sample_rate", "bit_rate"]),
    },
    "@cf/nvidia/nemotron-speech-streaming-en-0.6b": dict.fromkeys(["source_lang", "target_lang"]),
    "@cf/openai/whisper-large-v3-turbo": _LANGUAGE,
}

# The queue of gpt-oss takes the input of OpenAI's Responses.
_RESPONSES: Mapping[str, str | None] = {
    "prompt": "input",
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    **dict.fromkeys(
        [
            "chat_template_kwargs",
            "frequency_penalty",
            "functions",
            "logprobs",
            "lora",
            "n",
            "parallel_tool_calls",
            "presence_penalty",
            "raw",
            "reasoning_effort",
            "repetition_penalty",
            "response_format",
            "seed",
            "stop",
            "tool_choice",
            "tools",
            "top_k",
            "top_logprobs",
        ]
    ),
}
_QUEUE_FIELD_NAMES = {"@cf/openai/gpt-oss-120b": _RESPONSES, "@cf/openai/gpt-oss-20b": _RESPONSES}

# moondream streams by default.
_DEFAULT_FIELDS = {"@cf/moondream/moondream3.1-9B-A2B": {"stream": False}}
_NONE: Mapping[str, Any] = MappingProxyType({})


# Source: the input types of the models in @cloudflare/workers-types 5.20261117.1. Kimi's have
# `enable_thinking`; Cloudflare's changelog of 2026-04-20 says that kimi-k2.6 replaced it by
# `thinking`. Chat templates ignore names that they don't know, so both are sent. The types of
# qwen3-30b-a3b do not list the field.
_ALWAYS_THINK = ("@cf/moonshotai/kimi-k2.7-code", "@cf/openai/gpt-oss", "@cf/zai-org/glm-5.3")
_THINKING_SWITCHES = {
    "@cf/deepseek-ai/deepseek-v4": ("enable_thinking",),
    "@cf/google/gemma-4": ("enable_thinking",),
    "@cf/moonshotai/kimi-k2": ("thinking", "enable_thinking"),
    "@cf/nvidia/nemotron-3-120b": ("enable_thinking",),
    "@cf/qwen/qwen3": ("enable_thinking",),
    "@cf/zai-org/glm-": ("enable_thinking",),
}
"""By the start of the names of a family."""


def _find_thinking_switches(model: str) -> tuple[str, ...]:
    families = (family for family in _THINKING_SWITCHES if model.startswith(family))
    return next((_THINKING_SWITCHES[family] for family in families), ())


def _is_in_family(family: str, model: str) -> bool:
    """Whether the publisher or the name of the model starts with *family*."""
    # Names of others say nothing about the form: the user chooses that of a gateway's route.
    return model.startswith("@") and f"/{family}" in model.lower()


def is_gateway_route(model: str) -> bool:
    """Whether *model* names a route of AI Gateway, or its router, and not a model.

    Source: github.com/cloudflare/langchain-cloudflare, `validate_environment`: `/ai/run` answers
    400 (code 7000) to these names, `/ai/v1/chat/completions` takes them.
    """
    return model.startswith("dynamic/") or model == "cloudflare/auto"


def _default_route(model: str) -> Route:
    if is_gateway_route(model):
        return "chat"
    # Cloudflare docs, ai-gateway/usage/rest-api.mdx@0309c8b: models of other providers are named
    # author/model, those of Workers AI @cf/author/model.
    return "universal" if "/" in model and not model.startswith("@") else "run"


@lru_cache(maxsize=256)
def profile(model: str) -> Profile:
    """The profile of *model*; of an unknown model, the defaults of the API."""
    task = TASKS.get(model, "")
    texts, tokens, dimension = _EMBEDDING_LIMITS.get(model, (None, None, None))
    return Profile(
        model,
        task or None,
        retired=_RETIREMENTS.get(model),
        successor=_SUCCESSORS.get(model),
        media=_MODEL_FORMS.get(model) or _TASK_FORMS.get(task, MediaForm.INTEGERS),
        raw_type=_RAW_TYPES.get(model),
        field_names=_FIELD_NAMES.get(model, _NONE),
        queue_field_names=_QUEUE_FIELD_NAMES.get(model, _NONE),
        default_fields=_DEFAULT_FIELDS.get(model, _NONE),
        options_in_query=model == "@cf/deepgram/nova-3",
        websocket_only=model == "@cf/deepgram/flux",
        texts_per_request=texts,
        tokens_per_text=tokens,
        tokens_per_request=_REQUEST_TOKENS.get(model),
        # Source: the configuration of BAAI's models on Hugging Face ("BertTokenizer").
        english="bge-" in model and "-en-" in model,
        dimension=dimension,
        requests_per_minute=_MODEL_REQUESTS.get(model, _TASK_REQUESTS.get(task)),
        shares_requests_with=model if model in _MODEL_REQUESTS else task or None,
        # Source: github.com/cloudflare/langchain-cloudflare, MODEL_BEHAVIORS.
        guided_json=_is_in_family("mistral", model),
        route=_default_route(model),
        thinking_switches=_find_thinking_switches(model),
        always_thinks=model.startswith(_ALWAYS_THINK),
        reads_images={"images": True, "text": False}.get(_CATALOGUE.get(model, ("", ""))[1]),
        reads_calls=_is_in_family("llama", model) or _is_in_family("meta-llama", model),
    )


def models(task: str) -> tuple[str, ...]:
    """The known live models of a task, in the service's words ("Text Embeddings")."""
    return tuple(model for model in TASKS if TASKS[model] == task and model not in _RETIREMENTS)


def check_reads_images(model: str) -> None:
    """Check that *model* reads images in messages; a model that nobody knows may read them.

    Raises:
        InputError: It is known to read texts only.
    """
    if profile(model).reads_images is False:
        readers = ", ".join(name for name in TASKS if profile(name).reads_images)
        reason = f"a message must not contain an image: {model} reads only text"
        raise InputError(f"{reason}; models that read images: {readers}")


# Retired models

_NOT_CALLERS = ("cfai.", "asyncio.")

_warned: set[str] = set()


def warn_if_retired(model: str) -> None:
    """Warn that *model* is retired, once per process and model, if the catalogue says so."""
    model_profile = profile(model)
    if model_profile.retired is None or model in _warned:
        return
    successor = model_profile.successor or "another model"
    message = f"{model} was retired on {model_profile.retired}: use {successor}"
    warnings.warn(message, ModelRetiredWarning, stacklevel=_stack_level_of_caller())
    _warned.add(model)


def _stack_level_of_caller() -> int:
    """The level of the first frame outside of the SDK and asyncio, as `warnings.warn` counts."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(_NOT_CALLERS):
        frame, level = frame.f_back, level + 1
    return level


def identify_retired_model(error: ModelRetired, model: str) -> None:
    """Add to *error*, which the service sent for *model*, what the catalogue knows of it."""
    model_profile = profile(model)
    error.model = model
    error.retired = error.retired or model_profile.retired
    error.successor = model_profile.successor
