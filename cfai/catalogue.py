"""The models that the service is known to have listed, by its own names for their tasks.

What is not here may still exist, and what is here may be gone: nothing depends on it but defaults.
Source: the model type list of cloudflare/workerd of 2026-08-22, the model cards of
cloudflare/cloudflare-docs, and Cloudflare's OpenAPI document of August 2024.
"""

from types import MappingProxyType

__all__ = [
    "TASKS",
    "models",
]

_LISTED = {
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
    {model: task for task, models in _LISTED.items() for model in models.split()}
)
"""The task of each model: "Text Generation", "Text-to-Image", ..."""


def models(task: str) -> tuple[str, ...]:
    """Give the models of a task, by the service's name of it ("Text Embeddings")."""
    return tuple(_LISTED.get(task, "").split())
