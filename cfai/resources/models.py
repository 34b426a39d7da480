"""`WorkersAI.models`: the catalogue."""

from functools import partial

from cfai._session.pagination import Pager
from cfai._wire import models as wire
from cfai._wire.pagination import Page, Whole
from cfai.listings import Author, Model, ModelSchema, ModelTask
from cfai.resources.account import Account
from cfai.settings import Options


class Models:
    """The models that the service lists.

    ```python
    async for model in ai.models.search(task="Text Generation"):
        print(model.name, model.context_window, model.lora)
    ```
    """

    def __init__(self, account: Account) -> None:
        self._account = account

    def search(  # the filters of the API
        self,
        search: str | None = None,
        *,
        task: str | None = None,
        author: str | None = None,
        source: int | None = None,
        hide_experimental: bool | None = None,
        include_deprecated: bool | None = None,
        page_size: int | None = None,
        options: Options | None = None,
    ) -> Pager[Model]:
        """List models. What is left out narrows nothing, and is not sent.

        Args:
            search: Words of the name or the description.
            task: A task's name: "Text Generation".
            author: An author's name.
            source: The number of a source.
            hide_experimental: True leaves out what is experimental.
            include_deprecated: True lists models that are about to be dropped, too.
            page_size: Rows a page, 1 or more. Left out, the service chooses.
            options: What differs for this list.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/models/search`.
        """
        query = wire.filters(
            search=search,
            task=task,
            author=author,
            source=source,
            hide_experimental=hide_experimental,
            include_deprecated=include_deprecated,
        )
        start = Page(size=page_size)
        return self._account.pager(wire.SEARCH, wire.model_rows, start, query, options)

    async def schema(self, model: str, *, options: Options | None = None) -> ModelSchema:
        """Give what a model takes and answers, as JSON schemas.

        Raises:
            InputError: *model* can't be a model's name. Nothing was sent.
            StatusError: The service knows no such model.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/models/schema`.
        """
        return await self._account.ask(partial(wire.schema, model=model), wire.read_schema, options)

    def tasks(self, *, options: Options | None = None) -> Pager[ModelTask]:
        """List the tasks that models are made for.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/tasks/search`.
        """
        return self._account.pager(wire.TASKS, wire.task_rows, Whole(), options=options)

    def authors(self, *, options: Options | None = None) -> Pager[Author]:
        """List who made the models.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/authors/search`.
        """
        return self._account.pager(wire.AUTHORS, wire.author_rows, Whole(), options=options)
