"""A server for the clients of other makers, and the addresses that they need.

`nox -s clients` installs them. Elsewhere, the tests of a client that is missing are skipped.
"""

from collections.abc import AsyncIterator

import pytest
from attrs import frozen

from cfai.local import Server

LLAMA = "@cf/meta/llama-3.1-8b-instruct-fast"
GLM = "@cf/zai-org/glm-4.7-flash"
OSS = "@cf/openai/gpt-oss-20b"
BGE = "@cf/baai/bge-small-en-v1.5"
RERANKER = "@cf/baai/bge-reranker-base"
HELLO = "Say hello."


@frozen
class Address:
    """Where the server is."""

    api: str
    """`…/client/v4`."""
    account: str
    token: str

    @property
    def v1(self) -> str:
        """The base of OpenAI's protocols."""
        return f"{self.api}/accounts/{self.account}/ai/v1"


@pytest.fixture
async def address() -> AsyncIterator[Address]:
    async with Server() as server:
        account, token, api = server.credentials.values()
        yield Address(str(api), str(account), str(token))


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's environment decides where a client sends its requests."""
    for name in ("API_TOKEN", "API_KEY", "EMAIL", "ACCOUNT_ID", "BASE_URL"):
        monkeypatch.delenv(f"CLOUDFLARE_{name}", raising=False)
    # LiteLLM would download its price list, and a tokenizer.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
