"""Fine-tunes and their files, as the service lists them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen


@frozen
class Finetune:
    """A fine-tune: an adapter (LoRA) with its own name, for one model.

    Source: Workers AI API, "List Finetunes", "Create a new Finetune", "List Public Finetunes".
    """

    id: str
    """A UUID. `lora=` takes it, and the name."""

    model: str
    """The model that it was trained for."""

    name: str

    description: str | None = field(default=None, kw_only=True)

    public: bool | None = field(default=None, kw_only=True)
    """Whether every account can use it; unsaid in the list of one's own."""

    created_at: datetime | None = field(default=None, kw_only=True)
    """Aware. The service leaves both dates out now and then."""

    modified_at: datetime | None = field(default=None, kw_only=True)

    raw: Mapping[str, Any] | None = field(default=None, kw_only=True, repr=False, eq=False)
    """What the service said of it."""


@frozen(kw_only=True)
class FinetuneAsset:
    """A file that the service took. It may say no more than that it did: then all is `None`.

    Source: Workers AI API, "Upload a Finetune Asset", and Cloudflare's OpenAPI document of 2024-08.
    """

    id: str | None = None
    finetune_id: str | None = None
    file_name: str | None = None
    bucket_name: str | None = None
    created_at: datetime | None = None
    modified_at: datetime | None = None
    raw: Mapping[str, Any] | None = field(default=None, repr=False, eq=False)
