"""`WorkersAI.finetunes`: adapters (LoRA) listed, made and uploaded."""

import asyncio
import os
from functools import partial

from cfai._session.pagination import Pager
from cfai._wire import finetunes as wire
from cfai._wire.multipart import File, FileSource, Progress, adapter
from cfai._wire.pagination import Offset, Whole
from cfai.listings import Finetune, FinetuneAsset
from cfai.resources.account import Account
from cfai.settings import Options


class Finetunes:
    """The fine-tunes of an account, and the public ones.

    ```python
    finetune = await ai.finetunes.create("@cf/mistral/mistral-7b-instruct-v0.2-lora", "pirate")
    await ai.finetunes.upload_adapter(finetune, "out/adapter")
    answer = await ai.run(finetune.model, Prompt("Hello", raw=True, lora=finetune.name))
    ```
    """

    def __init__(self, account: Account) -> None:
        self._account = account

    def list(self, *, options: Options | None = None) -> Pager[Finetune]:
        """List the fine-tunes of the account.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/finetunes`. It is documented as one
        object, as a list and as a list in a list; each is read.
        """
        return self._account.pager(wire.OWN, wire.own_rows, Whole(), options=options)

    def public(
        self,
        *,
        limit: int | None = None,
        offset: int | None = None,
        order_by: str | None = None,
        options: Options | None = None,
    ) -> Pager[Finetune]:
        """List the fine-tunes that every account can use.

        Args:
            limit: Rows a page, 1 or more. Left out, the service chooses. A page with fewer is the
                end, so that a limit beyond what the service gives at once would cut the list.
            offset: Rows to pass over, 0 or more.
            order_by: The name of a column.
            options: What differs for this list.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/finetunes/public`.
        """
        start = Offset(limit=limit, offset=offset, order_by=order_by)
        return self._account.pager(wire.PUBLIC, wire.public_rows, start, options=options)

    async def create(
        self,
        model: str,
        name: str,
        *,
        description: str | None = None,
        public: bool | None = None,
        options: Options | None = None,
    ) -> Finetune:
        """Make a fine-tune, which then waits for its files.

        It is never made twice: of failed attempts, only a refusal (429) and a failed connect are
        repeated.

        Args:
            model: What it was trained for; a model that takes fine-tunes.
            name: What `lora=` will take. New in the account.
            description: For people.
            public: Whether every account may use it.
            options: What differs for this call.

        Raises:
            InputError: The model or the name is empty. Nothing was sent.
            StatusError: The service said no.

        Source: Workers AI API, `POST /accounts/{account_id}/ai/finetunes`.
        """
        asking = partial(
            wire.create, model=model, name=name, description=description, public=public
        )
        return await self._account.ask(asking, wire.created, options)

    async def upload(
        self,
        finetune: Finetune | str,
        file: FileSource,
        *,
        file_name: str | None = None,
        progress: Progress | None = None,
        options: Options | None = None,
    ) -> FinetuneAsset:
        """Upload one file of a fine-tune, read from disk while it is sent.

        The service lets no file be replaced. So it is never sent again after bytes went out, unless
        the service refused it (429).

        Args:
            finetune: It, its id or its name.
            file: A path, bytes, or an open binary file that can be rewound, for one upload at a
                time.
            file_name: How the service is to call it; needed for bytes, else the file's own name.
                It takes `adapter_config.json` and `adapter_model.safetensors`.
            progress: Called with the bytes that went out and with all there are, those of the form
                around the file included. Where a refused file is sent again, they begin anew. What
                it raises ends the upload.
            options: What differs for this call. `Timeouts.response` counts anew for each piece.

        Raises:
            InputError: The file is empty or can't be read. Nothing was sent.
            UploadInterrupted: The connection was lost; it has the bytes that had gone out.
            StatusError: The service said no.

        Source: Workers AI API, `POST …/ai/finetunes/{finetune_id}/finetune-assets`.
        """
        opened = await asyncio.to_thread(File.of, file, file_name)
        return await self._send(finetune, opened, progress, options)

    async def upload_adapter(
        self,
        finetune: Finetune | str,
        folder: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        options: Options | None = None,
    ) -> tuple[FinetuneAsset, FinetuneAsset]:
        """Check an adapter's two files, and upload them: the weights first, then the configuration.

        Args:
            finetune: It, its id or its name.
            folder: Holds `adapter_model.safetensors`, whole, and `adapter_config.json`, in which
                `r` is from 1 to 32 and `model_type` is mistral, gemma or llama. That the weights
                are of that rank is not looked at.
            progress: Called with the bytes of both files, as by `upload`.
            options: What differs for each of the two calls.

        Raises:
            InputError: A file is missing or damaged, or the service takes no such adapter. Nothing
                was sent.
            UploadInterrupted: The connection was lost. A file that was up already stays there.
            StatusError: The service said no.

        Source: Cloudflare docs, Workers AI, "Using LoRA adapters".
        """
        weights, config = await asyncio.to_thread(adapter, folder)
        told = _both(weights, config, progress)
        first = await self._send(finetune, weights, told[0], options)
        return first, await self._send(finetune, config, told[1], options)

    async def _send(
        self,
        finetune: Finetune | str,
        file: File,
        progress: Progress | None,
        options: Options | None,
    ) -> FinetuneAsset:
        known = finetune.id if isinstance(finetune, Finetune) else finetune
        asking = partial(wire.upload, finetune=known, file=file, progress=progress)
        return await self._account.ask(asking, wire.uploaded, options)


def _both(
    weights: File, config: File, progress: Progress | None
) -> tuple[Progress | None, Progress | None]:
    """Two callbacks that tell of two files as if they were one."""
    if progress is None:
        return None, None
    size = weights.size + config.size

    def first(sent: int, _: int) -> None:
        progress(min(sent, weights.size), size)

    def second(sent: int, _: int) -> None:
        progress(weights.size + min(sent, config.size), size)

    return first, second
