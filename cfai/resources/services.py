"""`Services`: the part of a client that is not about runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cfai._session.client import Client
from cfai.settings import Options, Polling
from cfai.tasks import Answer, Task

if TYPE_CHECKING:
    from cfai._session.account import Account
    from cfai._wire.multipart import FileSource
    from cfai.resources.finetunes import Finetunes
    from cfai.resources.markdown import Markdown, MarkdownFormat, ToConvert
    from cfai.resources.models import Models
    from cfai.resources.queue import QueuedBatch

    ToRun = Task[Any] | Mapping[str, Any]

A = TypeVar("A", bound=Answer)


class Services(Client):
    """What an account has beside its runs. `cfai.WorkersAI` is one."""

    @property
    def finetunes(self) -> Finetunes:
        """Fine-tunes: list, make and upload them."""
        from cfai.resources.finetunes import Finetunes

        return Finetunes(self._account)

    @property
    def models(self) -> Models:
        """The catalogue: search models, and look up what they take."""
        from cfai.resources.models import Models

        return Models(self._account)

    async def to_markdown(
        self,
        files: ToConvert | Iterable[ToConvert] | Mapping[str, FileSource],
        options: Mapping[str, Any] | None = None,
        *,
        call: Options | None = None,
    ) -> list[Markdown]:
        """Turn files into Markdown, all of them in one request.

        Args:
            files: One file, or several: each a path, an open binary file that can be rewound, or
                `(name, source)`, where the source may also be bytes. Or a mapping of names to
                sources. By the ending of a name, the service knows what it is. A pair of two texts
                alone is two paths.
            options: Of the conversion, as the service documents them:
                `{"pdf": {"metadata": False}}` leaves out what a PDF says of itself.
            call: What differs for this call.

        Returns:
            A result a file, in the service's order. A file that failed says so in `error`, and the
            others are not lost with it.

        Raises:
            InputError: There is no file, or one that is empty or can't be read. Nothing was sent.
            StatusError: The service refused all of them.

        Source: Cloudflare docs, Workers AI, "Markdown conversion", `POST …/ai/tomarkdown`.
        """
        from cfai.resources import markdown

        return await markdown.convert(self._account, files, options, call)

    async def to_markdown_formats(self, *, options: Options | None = None) -> list[MarkdownFormat]:
        """List the kinds of files that `to_markdown` takes.

        Source: Cloudflare docs, Workers AI, "Markdown conversion", `GET …/ai/tomarkdown/supported`.
        """
        from cfai.resources import markdown

        return await markdown.list_formats(self._account, options)

    @overload
    async def queue(
        self,
        model: str,
        tasks: Iterable[Task[A]] | Mapping[str, Task[A]],
        *,
        polling: Polling | None = None,
        options: Options | None = None,
    ) -> QueuedBatch[A]: ...
    @overload
    async def queue(
        self,
        model: str,
        tasks: Iterable[ToRun] | Mapping[str, ToRun],
        *,
        polling: Polling | None = None,
        options: Options | None = None,
    ) -> QueuedBatch[Any]: ...
    async def queue(
        self,
        model: str,
        tasks: Iterable[ToRun] | Mapping[str, ToRun],
        *,
        polling: Polling | None = None,
        options: Options | None = None,
    ) -> QueuedBatch[Any]:
        """Hand many runs of a model over, to be done when the service has room.

        It takes minutes, and is not refused for want of capacity. It is never handed over twice: of
        failed attempts, only a refusal (429) and a failed connect are repeated.

        Args:
            model: Its name. Not every model has a queue (`async_queue` in its properties).
            tasks: What is asked; nothing with media. A mapping has the references of the tasks as
                its keys; without them, a task's `external_reference` is its number, from 0.
            polling: How often to look; the first time after a second, if left out.
            options: What differs for this call, and for those that ask for the results.

        Raises:
            InputError: There is no task, or one that can't be queued. Nothing was sent.
            StatusError: The service said no.

        Source: Cloudflare docs, Workers AI, "Batch API", `POST …/ai/run/{model}?queueRequest=true`.
        """
        from cfai.resources import queue

        return await queue.submit_batch(self._account, model, tasks, polling, options)

    def queued(
        self,
        model: str,
        request_id: str,
        tasks: Iterable[ToRun] | Mapping[str, ToRun] | None = None,
        *,
        polling: Polling | None = None,
        options: Options | None = None,
    ) -> QueuedBatch[Any]:
        """Come back to a batch that was queued before. Nothing is sent until it is looked at.

        Args:
            model: What it was queued for.
            request_id: `QueuedBatch.request_id`.
            tasks: What was asked, as it was given to `queue`: then the answers are those of the
                tasks. Left out, each is a `Result`.
            polling: As for `queue`.
            options: What differs for each look.
        """
        from cfai.resources import queue

        return queue.find_batch(self._account, model, request_id, tasks, polling, options)

    @property
    def _account(self) -> Account:
        from cfai._session.account import Account

        return Account(self._session, self._settings)
