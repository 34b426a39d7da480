"""Documented responses of Cohere's API, and what its tests share."""

from datetime import UTC, datetime
from traceback import format_exception
from typing import Any

import pytest

from cfai.cohere import (
    BaseModel,
    BaseType,
    Cohere,
    Settings,
    WandbConfig,
)
from cfai.settings import Retries
from cfai.testing import FakeCohere

# Cohere API, "Lists fine-tuned models".
LISTED = b"""{
  "finetuned_models": [
    {
      "name": "chat-ft",
      "settings": {
        "base_model": {
          "base_type": "BASE_TYPE_CHAT",
          "name": "medium",
          "version": "14.2.0",
          "strategy": "STRATEGY_TFEW"
        },
        "dataset_id": "my-dataset-d701tr",
        "hyperparameters": {
          "early_stopping_patience": 6,
          "early_stopping_threshold": 0.01,
          "train_batch_size": 16,
          "train_epochs": 1,
          "learning_rate": 0.01
        }
      },
      "id": "fee37446-7fc7-42f9-a026-c6ba2fcc422d",
      "creator_id": "7a317d97-4d05-427d-9396-f31b9fb92c55",
      "organization_id": "6bdca3d5-3eae-4de0-ac34-786d8063b7ee",
      "status": "STATUS_READY",
      "created_at": "2024-01-15T09:30:00Z",
      "updated_at": "2024-01-15T09:30:00Z",
      "completed_at": "2024-01-15T09:30:00Z"
    },
    {
      "name": "rerank-ft",
      "settings": {
        "base_model": {
          "base_type": "BASE_TYPE_RERANK",
          "name": "english",
          "version": "2.0.0",
          "strategy": "STRATEGY_VANILLA"
        },
        "dataset_id": "rerank-dataset-d820xf"
      },
      "id": "9d927c5e-7598-4772-98b7-cdf2014e8874",
      "creator_id": "7a317d97-4d05-427d-9396-f31b9fb92c55",
      "organization_id": "6bdca3d5-3eae-4de0-ac34-786d8063b7ee",
      "status": "STATUS_READY",
      "created_at": "2024-01-15T09:30:00Z",
      "updated_at": "2024-01-15T09:30:00Z",
      "completed_at": "2024-01-15T09:30:00Z"
    }
  ]
}"""
ONE = (
    b'{"finetuned_model":{"name":"rerank-ft","settings":{"base_model":{"base_type":'
    b'"BASE_TYPE_RERANK"},"dataset_id":"d"},"id":"m-1","status":"STATUS_QUEUED"}}'
)
MOMENT = datetime(2024, 1, 15, 9, 30, tzinfo=UTC)
MODEL = "9d927c5e-7598-4772-98b7-cdf2014e8874"
RERANK = Settings(BaseModel(BaseType.RERANK), "rerank-dataset-d820xf")
WANDB_KEY = "wandb-0123456789abcdef"
TRACKED = Settings(BaseModel("BASE_TYPE_CHAT"), "d", wandb=WandbConfig("p", WANDB_KEY))
NEVER = Retries(max=0)
AT_ONCE = Retries(max=2, base=0)
PATH = "/v1/finetuning/finetuned-models"


def client_of(fake: FakeCohere, **options: Any) -> Cohere:
    with pytest.warns(DeprecationWarning, match="2025-09-15"):
        return fake.client(**options)


def shown(error: BaseException) -> str:
    """All that an error says and keeps, and what a log shows of where it comes from."""
    return "".join([*format_exception(error), repr(error), repr(vars(error))])
