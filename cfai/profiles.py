"""What is known of a model beyond its task: how it takes media, how much at once, and how often.

All of it can be overruled (`media_form`) or is only a default: the service may have changed since.
"""

from functools import lru_cache
from types import MappingProxyType

from attrs import frozen

from cfai.media import MediaForm

__all__ = [
    "TASKS",
    "Profile",
    "models",
    "profile",
]


@frozen
class Profile:
    """What is known of one model. `None` is not known, or not limited."""

    model: str

    task: str | None = None
    """The service's name of its task, "Text Generation" for one; `None` for an unknown model."""

    media: MediaForm = MediaForm.INTEGERS
    """How it takes media; an unknown model as the API's own schema says.

    A raw body has no room for other fields: where there are some, such a model takes integers,
    unless `options_in_query`.
    """

    options_in_query: bool = False
    """Whether the other fields go into the query string, beside a raw body of its own type."""

    websocket_only: bool = False
    """Whether it answers over a WebSocket alone, which this SDK does not speak."""

    texts_per_request: int | None = None
    """How many texts it embeds at once."""

    tokens_per_text: int | None = None
    """How long one of these texts can be, in tokens."""

    dimension: int | None = None
    """How many numbers a vector of it has."""

    requests_per_minute: int | None = None
    """How many requests the service takes from an account."""

    shares_requests_with: str | None = None
    """Who else counts towards them: a task, for all models of it; or the model itself, alone."""

    guided_json: bool = False
    """Whether it takes a JSON schema as `guided_json`, and not in `response_format`."""

    reads_calls: bool = False
    """Whether it has to read its own calls of tools as text, too, to go on from their results."""


# Source: the model type list of cloudflare/workerd of 2026-08-22, the model cards of
# cloudflare/cloudflare-docs, and Cloudflare's OpenAPI document of August 2024. A model that is not
# listed may exist, and a listed one may be gone: only defaults depend on this.
_MODELS = {
    "Automatic Speech Recognition": """
        @cf/deepgram/flux
        @cf/deepgram/nova-3
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
    """,
    "Text Generation": """
        @cf/aisingapore/gemma-sea-lion-v4-27b-it
        @cf/cloudflare/clef
        @cf/cloudflare/clef-flash
        @cf/cloudflare/clef-omni
        @cf/deepseek-ai/deepseek-math-7b-instruct
        @cf/deepseek-ai/deepseek-r1-distill-qwen-32b
        @cf/deepseek-ai/deepseek-v4-flash-0731
        @cf/deepseek-ai/deepseek-v4-pro-0813
        @cf/defog/sqlcoder-7b-2
        @cf/fblgit/una-cybertron-7b-v2-bf16
        @cf/google/gemma-2b-it-lora
        @cf/google/gemma-3-12b-it
        @cf/google/gemma-4-26b-a4b-it
        @cf/google/gemma-7b-it-lora
        @cf/ibm-granite/granite-4.0-h-micro
        @cf/meta-llama/llama-2-7b-chat-hf-lora
        @cf/meta/llama-2-7b-chat-fp16
        @cf/meta/llama-2-7b-chat-int8
        @cf/meta/llama-3-8b-instruct
        @cf/meta/llama-3-8b-instruct-awq
        @cf/meta/llama-3.1-70b-instruct
        @cf/meta/llama-3.1-8b-instruct
        @cf/meta/llama-3.1-8b-instruct-awq
        @cf/meta/llama-3.1-8b-instruct-fast
        @cf/meta/llama-3.1-8b-instruct-fp8
        @cf/meta/llama-3.2-11b-vision-instruct
        @cf/meta/llama-3.2-1b-instruct
        @cf/meta/llama-3.2-3b-instruct
        @cf/meta/llama-3.3-70b-instruct-fp8-fast
        @cf/meta/llama-4-scout-17b-16e-instruct
        @cf/meta/llama-guard-3-8b
        @cf/microsoft/phi-2
        @cf/mistral/mistral-7b-instruct-v0.1
        @cf/mistral/mistral-7b-instruct-v0.2-lora
        @cf/mistralai/mistral-small-3.1-24b-instruct
        @cf/moonshotai/kimi-k2.5
        @cf/moonshotai/kimi-k2.6
        @cf/moonshotai/kimi-k2.7-code
        @cf/nvidia/nemotron-3-120b-a12b
        @cf/openai/gpt-oss-120b
        @cf/openai/gpt-oss-20b
        @cf/openchat/openchat-3.5-0106
        @cf/qwen/qwen1.5-0.5b-chat
        @cf/qwen/qwen1.5-1.8b-chat
        @cf/qwen/qwen1.5-14b-chat-awq
        @cf/qwen/qwen1.5-7b-chat-awq
        @cf/qwen/qwen2.5-coder-32b-instruct
        @cf/qwen/qwen3-30b-a3b-fp8
        @cf/qwen/qwen3.8-27b
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

TASKS = MappingProxyType(
    {model: task for task, models in _MODELS.items() for model in models.split()}
)
"""The task of each known model, in the service's words: "Text Generation", "Text-to-Image", ..."""

# Source: developers.cloudflare.com/workers-ai/platform/limits.
_REQUESTS = {
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
_REQUESTS_OF = {
    "@cf/baai/bge-large-en-v1.5": 1500,
    "@cf/baai/bge-reranker-base": None,
    "@cf/microsoft/phi-2": 720,
    "@cf/qwen/qwen1.5-0.5b-chat": 1500,
    "@cf/qwen/qwen1.5-1.8b-chat": 720,
    "@cf/qwen/qwen1.5-14b-chat-awq": 150,
    "@cf/runwayml/stable-diffusion-v1-5-img2img": 1500,
    "@cf/tinyllama/tinyllama-1.1b-chat-v1.0": 720,
    "@hf/thebloke/mistral-7b-instruct-v0.1-awq": 400,
}

# Texts at once, tokens in each, and dimensions. Source: the models' input schemas and cards;
# where a card is silent on the dimensions, those of the model's own publisher.
_EMBEDDING: dict[str, tuple[int | None, int | None, int]] = {
    "@cf/baai/bge-small-en-v1.5": (100, 512, 384),
    "@cf/baai/bge-base-en-v1.5": (100, 512, 768),
    "@cf/baai/bge-large-en-v1.5": (100, 512, 1024),
    "@cf/baai/omni-bge-base-en-v1.5": (100, 512, 768),
    "@cf/baai/bge-m3": (100, 60000, 1024),
    "@cf/qwen/qwen3-embedding-0.6b": (32, 8192, 1024),
    "@cf/google/embeddinggemma-300m": (None, None, 768),
    "@cf/pfnet/plamo-embedding-1b": (None, None, 2048),
}

# Source: the models' input schemas. The first take the bytes as the body, or integers in JSON.
_FORMS = {
    "@cf/facebook/detr-resnet-50": MediaForm.RAW,
    "@cf/llava-hf/llava-1.5-7b-hf": MediaForm.RAW,
    "@cf/microsoft/resnet-50": MediaForm.RAW,
    "@cf/openai/whisper": MediaForm.RAW,
    "@cf/openai/whisper-tiny-en": MediaForm.RAW,
    "@cf/unum/uform-gen2-qwen-500m": MediaForm.RAW,
    "@cf/deepgram/nova-3": MediaForm.RAW,
    "@cf/openai/whisper-large-v3-turbo": MediaForm.BASE64,
    "@cf/pipecat-ai/smart-turn-v2": MediaForm.BASE64,
    "@cf/black-forest-labs/flux-2-dev": MediaForm.MULTIPART,
    "@cf/black-forest-labs/flux-2-klein-4b": MediaForm.MULTIPART,
    "@cf/black-forest-labs/flux-2-klein-9b": MediaForm.MULTIPART,
}
# The API's schema has a field for base64 (`image_b64`) here, beside the one for integers.
_FORMS_OF_TASKS = {"Text-to-Image": MediaForm.BASE64}


def _is_of(family: str, model: str) -> bool:
    """Whether its publisher or its name begins with the family's name."""
    # A route of a gateway has a name of its user's choice, which says nothing of the model.
    return f"/{family}" in model.lower() and not model.startswith("dynamic/")


@lru_cache(maxsize=256)
def profile(model: str) -> Profile:
    """Give what is known of *model*; of an unknown one, what the API says of all."""
    task = TASKS.get(model, "")
    texts, tokens, dimension = _EMBEDDING.get(model, (None, None, None))
    return Profile(
        model,
        task or None,
        media=_FORMS.get(model) or _FORMS_OF_TASKS.get(task, MediaForm.INTEGERS),
        options_in_query=model == "@cf/deepgram/nova-3",
        websocket_only=model == "@cf/deepgram/flux",
        texts_per_request=texts,
        tokens_per_text=tokens,
        dimension=dimension,
        requests_per_minute=_REQUESTS_OF.get(model, _REQUESTS.get(task)),
        shares_requests_with=model if model in _REQUESTS_OF else task or None,
        # Source: github.com/cloudflare/langchain-cloudflare, MODEL_BEHAVIORS.
        guided_json=_is_of("mistral", model),
        reads_calls=_is_of("llama", model) or _is_of("meta-llama", model),
    )


def models(task: str) -> tuple[str, ...]:
    """The known models of a task, in the service's words ("Text Embeddings")."""
    return tuple(_MODELS.get(task, "").split())
