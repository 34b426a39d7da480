"""Profiles of models: tasks, media forms, limits and rates."""

import pytest

from cfai.errors import InputError
from cfai.media import MediaForm
from cfai.profiles import TASKS, Profile, check_reads_images, is_gateway_route, models, profile


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("@cf/meta/llama-3.1-8b-instruct-fast", "Text Generation"),
        ("@cf/cloudflare/clairic-flash", "Text Generation"),
        ("@cf/baai/bge-m3", "Text Embeddings"),
        ("@cf/baai/bge-reranker-base", "Text Classification"),
        ("@cf/stabilityai/stable-diffusion-xl-base-1.0", "Text-to-Image"),
        ("@cf/myshell-ai/melotts", "Text-to-Speech"),
        ("@cf/openai/whisper", "Automatic Speech Recognition"),
        ("@cf/microsoft/resnet-50", "Image Classification"),
        ("@cf/facebook/detr-resnet-50", "Object Detection"),
        ("@cf/meta/m2m100-1.2b", "Translation"),
        ("@cf/llava-hf/llava-1.5-7b-hf", "Image-to-Text"),
        ("@cf/pipecat-ai/smart-turn-v2", "Voice Activity Detection"),
        ("@cf/nobody/nothing", None),
    ],
)
def test_tasks_of_models(model: str, task: str | None) -> None:
    assert profile(model).task == task
    assert profile(model).model == model


def test_an_unknown_model_has_the_defaults_of_the_api() -> None:
    assert profile("@cf/nobody/nothing") == Profile("@cf/nobody/nothing")
    assert profile("@cf/nobody/nothing").media is MediaForm.INTEGERS


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("@cf/openai/whisper", MediaForm.RAW),
        ("@cf/openai/whisper-tiny-en", MediaForm.RAW),
        ("@cf/microsoft/resnet-50", MediaForm.RAW),
        ("@cf/facebook/detr-resnet-50", MediaForm.RAW),
        ("@cf/llava-hf/llava-1.5-7b-hf", MediaForm.RAW),
        ("@cf/deepgram/nova-3", MediaForm.RAW),
        ("@cf/openai/whisper-large-v3-turbo", MediaForm.BASE64),
        ("@cf/pipecat-ai/smart-turn-v2", MediaForm.BASE64),
        ("@cf/moondream/moondream3.1-9B-A2B", MediaForm.DATA_URI),
        ("@cf/nvidia/nemotron-speech-streaming-en-0.6b", MediaForm.BASE64),
        ("@cf/runwayml/stable-diffusion-v1-5-img2img", MediaForm.BASE64),
        ("@cf/runwayml/stable-diffusion-v1-5-inpainting", MediaForm.BASE64),
        ("@cf/black-forest-labs/flux-2-dev", MediaForm.MULTIPART),
        ("@cf/black-forest-labs/flux-2-klein-4b", MediaForm.MULTIPART),
        ("@cf/black-forest-labs/flux-2-klein-9b", MediaForm.MULTIPART),
    ],
)
def test_media_forms_of_models(model: str, form: MediaForm) -> None:
    assert profile(model).media is form


def test_raw_media_have_their_own_type_for_nova_3_only() -> None:
    raw = [model for model in TASKS if profile(model).media is MediaForm.RAW]
    types = {model: profile(model).raw_type for model in raw}
    assert types.pop("@cf/deepgram/nova-3") is None
    assert set(types.values()) == {"application/octet-stream"}
    assert profile("@cf/some/model").raw_type is None


def test_models_with_options_in_the_query_or_only_websockets() -> None:
    assert [model for model in TASKS if profile(model).options_in_query] == ["@cf/deepgram/nova-3"]
    assert [model for model in TASKS if profile(model).websocket_only] == ["@cf/deepgram/flux"]


@pytest.mark.parametrize(
    ("model", "texts", "tokens", "dimension"),
    [
        ("@cf/baai/bge-small-en-v1.5", 100, 512, 384),
        ("@cf/baai/bge-base-en-v1.5", 100, 512, 768),
        ("@cf/baai/bge-large-en-v1.5", 100, 512, 1024),
        ("@cf/baai/omni-bge-base-en-v1.5", 100, 512, 768),
        ("@cf/baai/bge-m3", 100, 8192, 1024),
        ("@cf/qwen/qwen3-embedding-0.6b", 32, 8192, 1024),
        ("@cf/google/embeddinggemma-300m", None, None, 768),
        ("@cf/pfnet/plamo-embedding-1b", None, None, 2048),
        ("@cf/meta/llama-3.1-8b-instruct-fast", None, None, None),
    ],
)
def test_limits_of_embedding_models(
    model: str, texts: int | None, tokens: int | None, dimension: int | None
) -> None:
    limits = profile(model)

    assert (limits.texts_per_request, limits.tokens_per_text) == (texts, tokens)
    assert limits.dimension == dimension


def test_bge_m3_has_a_limit_for_all_texts_of_a_request() -> None:
    """Live, code 3030: "Max context reached 85920 tokens but model supports only 60000"."""
    limited = [model for model in TASKS if profile(model).tokens_per_request is not None]
    assert limited == ["@cf/baai/bge-m3"]
    assert profile("@cf/baai/bge-m3").tokens_per_request == 60_000


def test_every_embedding_model_has_a_dimension() -> None:
    for model in models("Text Embeddings"):
        assert profile(model).dimension, model


@pytest.mark.parametrize(
    ("model", "requests"),
    [
        ("@cf/openai/whisper", 720),
        ("@cf/microsoft/resnet-50", 3000),
        ("@cf/llava-hf/llava-1.5-7b-hf", 720),
        ("@cf/facebook/detr-resnet-50", 3000),
        ("@cf/huggingface/distilbert-sst-2-int8", 2000),
        ("@cf/baai/bge-m3", 3000),
        ("@cf/baai/bge-large-en-v1.5", 1500),
        ("@cf/meta/llama-3.1-8b-instruct-fast", 300),
        ("@cf/black-forest-labs/flux-1-schnell", 720),
        ("@cf/runwayml/stable-diffusion-v1-5-img2img", 1500),
        ("@cf/meta/m2m100-1.2b", 720),
        ("@cf/deepgram/aura-1", None),
        ("@cf/pipecat-ai/smart-turn-v2", None),
        ("@cf/baai/bge-reranker-base", None),
        ("@cf/facebook/bart-large-cnn", 1500),
        ("@cf/nobody/nothing", None),
    ],
)
def test_rates_of_tasks_and_models(model: str, requests: int | None) -> None:
    assert profile(model).requests_per_minute == requests


def test_each_live_model_is_listed_once_with_its_task() -> None:
    listed = [model for task in sorted(set(TASKS.values())) for model in models(task)]

    assert sorted(listed) == sorted(model for model in TASKS if profile(model).retired is None)
    assert len(set(listed)) == len(listed) > 70
    assert all(model.startswith(("@cf/", "@hf/")) and model.count("/") == 2 for model in listed)
    assert models("No Such Task") == ()


IMAGE_READERS = [
    "@cf/google/gemma-4-26b-a4b-it",
    "@cf/meta/llama-3.2-11b-vision-instruct",
    "@cf/meta/llama-4-scout-17b-16e-instruct",
    "@cf/mistralai/mistral-small-3.1-24b-instruct",
    "@cf/moonshotai/kimi-k2.6",
    "@cf/moonshotai/kimi-k2.7-code",
    "@cf/qwen/qwen3.8-27b",
]


def test_models_that_read_images() -> None:
    """Sources: `image_url` in their input types, and the property "vision" of their cards."""
    assert [model for model in TASKS if profile(model).reads_images] == IMAGE_READERS
    for model in IMAGE_READERS:
        check_reads_images(model)


@pytest.mark.parametrize(
    "model",
    [
        "@cf/meta/llama-3.1-8b-instruct-fast",
        "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
        "@cf/qwen/qwen3-30b-a3b-fp8",
        "@cf/mistral/mistral-7b-instruct-v0.2-lora",
    ],
)
def test_models_that_read_only_text(model: str) -> None:
    """The input type of each has texts only."""
    assert profile(model).reads_images is False
    with pytest.raises(InputError) as caught:
        check_reads_images(model)
    assert f"{model} reads only text" in str(caught.value)
    assert all(reader in str(caught.value) for reader in IMAGE_READERS)


@pytest.mark.parametrize("model", ["@cf/nobody/nothing", "openai/gpt-5", "@cf/zai-org/glm-5.3"])
def test_a_model_of_which_nothing_is_known_may_read_images(model: str) -> None:
    assert profile(model).reads_images is None
    check_reads_images(model)


@pytest.mark.parametrize(
    ("model", "shared"),
    [
        ("@cf/baai/bge-m3", "Text Embeddings"),
        ("@cf/baai/bge-large-en-v1.5", "@cf/baai/bge-large-en-v1.5"),
        ("@cf/baai/bge-reranker-base", "@cf/baai/bge-reranker-base"),
        ("@cf/meta/llama-3.1-8b-instruct-fast", "Text Generation"),
        ("@cf/nobody/nothing", None),
    ],
)
def test_models_of_a_task_share_its_rate(model: str, shared: str | None) -> None:
    """But not one that has its own."""
    assert profile(model).shares_requests_with == shared


def test_models_with_the_vocabulary_of_bert() -> None:
    """Those of BAAI for English."""
    assert [model for model in models("Text Embeddings") if profile(model).english] == [
        "@cf/baai/bge-base-en-v1.5",
        "@cf/baai/bge-large-en-v1.5",
        "@cf/baai/bge-small-en-v1.5",
        "@cf/baai/omni-bge-base-en-v1.5",
    ]
    assert not profile("@cf/someone/gte-large-en-v1.5").english


@pytest.mark.parametrize(
    ("model", "switches", "always"),
    [
        ("@cf/deepseek-ai/deepseek-v4-flash", ("enable_thinking",), False),
        ("@cf/google/gemma-4-26b-a4b-it", ("enable_thinking",), False),
        ("@cf/google/gemma-3-12b-it", (), False),
        ("@cf/moonshotai/kimi-k2.6", ("thinking", "enable_thinking"), False),
        ("@cf/moonshotai/kimi-k2.7-code", ("thinking", "enable_thinking"), True),
        ("@cf/nvidia/nemotron-3-120b-a12b", ("enable_thinking",), False),
        ("@cf/qwen/qwen3-30b-a3b-fp8", ("enable_thinking",), False),
        ("@cf/qwen/qwen2.5-coder-32b-instruct", (), False),
        ("@cf/zai-org/glm-4.7-flash", ("enable_thinking",), False),
        ("@cf/zai-org/glm-5.3", ("enable_thinking",), True),
        ("@cf/openai/gpt-oss-20b", (), True),
        ("@cf/meta/llama-3.1-8b-instruct-fast", (), False),
        ("qwen/qwen3", (), False),
    ],
)
def test_which_models_think(model: str, switches: tuple[str, ...], always: bool) -> None:
    """Source: their input types in @cloudflare/workers-types 5.20261117.1."""
    assert profile(model).thinking_switches == switches
    assert profile(model).always_thinks is always


@pytest.mark.parametrize(
    ("model", "guided", "calls"),
    [
        ("@cf/mistral/mistral-7b-instruct-v0.2-lora", True, False),
        ("@cf/mistralai/mistral-small-3.1-24b-instruct", True, False),
        ("@hf/thebloke/Mistral-7b", True, False),
        ("@cf/meta/llama-3.1-8b-instruct-fast", False, True),
        ("@hf/meta-llama/meta-llama-3-8b-instruct", False, True),
        ("@cf/meta/m2m100-1.2b", False, False),
        ("@cf/google/gemma-4-26b-a4b-it", False, False),
        ("mistral/mistral-large", False, False),
        ("meta/llama-4", False, False),
    ],
)
def test_families_with_forms_of_their_own(model: str, guided: bool, calls: bool) -> None:
    """By the name of the publisher or the model; names of other providers say nothing."""
    assert profile(model).guided_json is guided
    assert profile(model).reads_calls is calls


@pytest.mark.parametrize(
    ("model", "route"),
    [
        ("@cf/meta/llama-3.1-8b-instruct-fast", "run"),
        ("@cf/nobody/nothing", "run"),
        ("plain", "run"),
        ("openai/gpt-5", "universal"),
        ("cloudflare/auto", "chat"),
        ("cloudflare/autos", "universal"),
        ("dynamic/support", "chat"),
        ("dynamically/x", "universal"),
    ],
)
def test_the_route_of_a_name(model: str, route: str) -> None:
    assert profile(model).route == route
    assert is_gateway_route(model) is (route == "chat")


def test_models_with_a_way_of_their_own() -> None:
    """Options in the query beside raw bytes, WebSockets only, and no stream by default."""
    assert [model for model in TASKS if profile(model).options_in_query] == ["@cf/deepgram/nova-3"]
    assert [model for model in TASKS if profile(model).websocket_only] == ["@cf/deepgram/flux"]
    own = {model: dict(profile(model).default_fields) for model in TASKS}
    assert {model: fields for model, fields in own.items() if fields} == {
        "@cf/moondream/moondream3.1-9B-A2B": {"stream": False}
    }
