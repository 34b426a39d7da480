"""Cohere's fine-tuned models, their settings, and the history of their training.

The names are Cohere's, and some of them are common words, so `cfai.cohere` exports them and `cfai`
does not. An enum lists the documented values; its field takes any text, as the service may add one.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from attrs import Attribute, field, frozen

from cfai._types.excerpts import format_value
from cfai._validators import is_finite_number
from cfai.errors import InputError


class BaseType(StrEnum):
    """The kind of task that a model is for."""

    UNSPECIFIED = "BASE_TYPE_UNSPECIFIED"
    GENERATIVE = "BASE_TYPE_GENERATIVE"
    CLASSIFICATION = "BASE_TYPE_CLASSIFICATION"
    RERANK = "BASE_TYPE_RERANK"
    CHAT = "BASE_TYPE_CHAT"


class Strategy(StrEnum):
    """How a model is trained. Cohere deprecated this before the rest."""

    UNSPECIFIED = "STRATEGY_UNSPECIFIED"
    VANILLA = "STRATEGY_VANILLA"
    TFEW = "STRATEGY_TFEW"


class Status(StrEnum):
    """The state of a model."""

    UNSPECIFIED = "STATUS_UNSPECIFIED"
    FINETUNING = "STATUS_FINETUNING"
    DEPLOYING_API = "STATUS_DEPLOYING_API"
    READY = "STATUS_READY"
    FAILED = "STATUS_FAILED"
    DELETED = "STATUS_DELETED"
    TEMPORARILY_OFFLINE = "STATUS_TEMPORARILY_OFFLINE"
    PAUSED = "STATUS_PAUSED"
    QUEUED = "STATUS_QUEUED"


class LoraTargetModules(StrEnum):
    """The parts of the base model that an adapter changes."""

    UNSPECIFIED = "LORA_TARGET_MODULES_UNSPECIFIED"
    QV = "LORA_TARGET_MODULES_QV"
    QKVO = "LORA_TARGET_MODULES_QKVO"
    QKVO_FFN = "LORA_TARGET_MODULES_QKVO_FFN"


def _is_int32(instance: object, attribute: "Attribute[Any]", value: object) -> None:
    if value is not None and (type(value) is not int or not -(2**31) <= value < 2**31):
        name = f"{type(instance).__name__}.{attribute.name}"
        raise InputError(f"{name} must be a 32-bit integer, got {format_value(value)}")


def _is_finite(instance: object, attribute: "Attribute[Any]", value: object) -> None:
    if value is not None and not is_finite_number(value):
        name = f"{type(instance).__name__}.{attribute.name}"
        raise InputError(f"{name} must be a finite number, got {format_value(value)}")


def _is_unshown_text(instance: object, attribute: "Attribute[Any]", value: object) -> None:
    # The value may be a key that was passed by mistake, so the message does not show it.
    if value is not None and not isinstance(value, str):
        name = f"{type(instance).__name__}.{attribute.name}"
        raise InputError(f"{name} must be a string, got {type(value).__name__}")


@frozen
class BaseModel:
    """The model that training starts from.

    Source: Cohere API, "Trains and deploys a fine-tuned model", `BaseModel`.
    """

    base_type: str = field(validator=_is_unshown_text)
    """One of `BaseType`, or a value newer than this package."""

    name: str | None = field(default=None, kw_only=True, validator=_is_unshown_text)
    version: str | None = field(default=None, kw_only=True, validator=_is_unshown_text)
    """Set by the service; not sent."""

    strategy: str | None = field(default=None, kw_only=True, validator=_is_unshown_text)
    """One of `Strategy`, or another value."""


@frozen(kw_only=True)
class Hyperparameters:
    """How to train. `None` means: not sent, or not in the response.

    Source: Cohere API, "Trains and deploys a fine-tuned model", `Hyperparameters`.
    """

    early_stopping_patience: int | None = field(default=None, validator=_is_int32)
    """Training ends after this many evaluations without an improvement."""

    early_stopping_threshold: float | None = field(default=None, validator=_is_finite)
    """How much the loss must fall to count as an improvement."""

    train_batch_size: int | None = field(default=None, validator=_is_int32)
    train_epochs: int | None = field(default=None, validator=_is_int32)
    learning_rate: float | None = field(default=None, validator=_is_finite)
    lora_alpha: int | None = field(default=None, validator=_is_int32)
    lora_rank: int | None = field(default=None, validator=_is_int32)
    lora_target_modules: str | None = field(default=None, validator=_is_unshown_text)
    """One of `LoraTargetModules`, or another value."""


@frozen
class WandbConfig:
    """The Weights & Biases project that training is reported to.

    Source: Cohere API, "Trains and deploys a fine-tuned model", `WandbConfig`.
    """

    project: str = field(validator=_is_unshown_text)
    api_key: str = field(repr=False, validator=_is_unshown_text)
    """A secret. It never appears in a `repr`, an error or `raw`."""

    entity: str | None = field(default=None, kw_only=True, validator=_is_unshown_text)
    """The owner of the project; if omitted, the owner of the key."""


@frozen
class Settings:
    """The base model, the data and the parameters of a training.

    Source: Cohere API, "Trains and deploys a fine-tuned model", `Settings`.
    """

    base_model: BaseModel
    dataset_id: str = field(validator=_is_unshown_text)
    hyperparameters: Hyperparameters | None = field(default=None, kw_only=True)
    multi_label: bool = field(default=False, kw_only=True)
    """Set by the service for classification models; not sent."""

    wandb: WandbConfig | None = field(default=None, kw_only=True)


@frozen
class FinetunedModel:
    """A fine-tuned model as the service lists it. Times have a time zone.

    Source: Cohere API, "Lists fine-tuned models".
    """

    name: str
    settings: Settings
    id: str | None = field(default=None, kw_only=True)
    creator_id: str | None = field(default=None, kw_only=True)
    organization_id: str | None = field(default=None, kw_only=True)
    status: str = field(default=Status.UNSPECIFIED.value, kw_only=True)
    """One of `Status`, or a value newer than this package."""

    created_at: datetime | None = field(default=None, kw_only=True)
    updated_at: datetime | None = field(default=None, kw_only=True)
    completed_at: datetime | None = field(default=None, kw_only=True)
    last_used: datetime | None = field(default=None, kw_only=True)
    """Cohere deprecated this before the rest."""

    raw: Mapping[str, Any] | None = field(default=None, kw_only=True, repr=False, eq=False)
    """The row as decoded JSON, without the Weights & Biases key."""


@frozen(kw_only=True)
class Event:
    """A change of a model's status.

    Source: Cohere API, "Fetch history of statuses for a fine-tuned model".
    """

    user_id: str | None = None
    """Who caused it; `None` if the service did."""

    status: str = Status.UNSPECIFIED.value
    """One of `Status`, or another value."""

    created_at: datetime | None = None
    raw: Mapping[str, Any] | None = field(default=None, repr=False, eq=False)


@frozen(kw_only=True)
class TrainingStepMetrics:
    """The metrics of one training step.

    Source: Cohere API, "Retrieve training metrics for fine-tuned models".
    """

    created_at: datetime | None = None
    step_number: int = 0
    """Counted from 0."""

    metrics: Mapping[str, float] = field(factory=dict, hash=False)
    """By name, such as "accuracy". A value may be `nan` or infinite."""

    raw: Mapping[str, Any] | None = field(default=None, repr=False, eq=False)
