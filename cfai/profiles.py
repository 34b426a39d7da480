"""What is known of a model beyond its task: how it takes media, how much at once, and how often.

All of it can be overruled (`media_form`) or is only a default: the service may have changed since.
"""

from functools import lru_cache

from attrs import frozen

from cfai.catalogue import TASKS
from cfai.media import MediaForm

__all__ = [
    "Profile",
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
