"""`CloudflareWorkersAIEmbeddings` of LangChain."""

from __future__ import annotations

from .contender import EMBEDDER, MANY_TEXTS, SENTENCES, Contender, many_texts
from .server import TEXTS


class LangChain(Contender):
    name = "langchain-cloudflare"
    packages = ("langchain_cloudflare",)
    note = "`aembed_documents`, which sends one request after the other; 100 texts per request"

    async def open(self) -> None:
        from langchain_cloudflare import CloudflareWorkersAIEmbeddings

        self._embeddings = CloudflareWorkersAIEmbeddings(
            account_id="a",
            api_token="t",
            api_base_url=f"{self.origin}/client/v4/accounts",
            model_name=EMBEDDER,
            batch_size=TEXTS,
        )

    async def aclose(self) -> None:
        """It opens a client for each call."""

    async def embed(self) -> int:
        return sum(map(len, await self._embeddings.aembed_documents(SENTENCES)))

    async def embed_many(self, count: int = MANY_TEXTS) -> int:
        return sum(map(len, await self._embeddings.aembed_documents(list(many_texts(count)))))
