"""What the service lists and answers beside runs, as values: fine-tunes, models, Markdown."""

from cfai.listings.finetunes import Finetune, FinetuneAsset
from cfai.listings.markdown import Markdown, MarkdownFormat
from cfai.listings.models import Author, Model, ModelSchema, ModelTask, Price

__all__ = [
    "Author",
    "Finetune",
    "FinetuneAsset",
    "Markdown",
    "MarkdownFormat",
    "Model",
    "ModelSchema",
    "ModelTask",
    "Price",
]
