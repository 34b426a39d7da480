"""The clients that are compared, one module each. Add new ones to `CONTENDERS`."""

from __future__ import annotations

from .bare import Bare, BareRead, BareToFloat32
from .contender import Contender
from .httpx_by_hand import HttpxByHand
from .huggingface import HuggingFace
from .langchain import LangChain
from .litellm_sdk import LiteLLM
from .official import Official
from .openai_sdk import OpenAI
from .ours import Ours

CONTENDERS: tuple[type[Contender], ...] = (
    BareRead,
    Bare,
    BareToFloat32,
    Ours,
    HttpxByHand,
    Official,
    HuggingFace,
    OpenAI,
    LiteLLM,
    LangChain,
)
