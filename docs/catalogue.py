"""Writes the catalogue of known models into `cfai/profiles.py`.

`python docs/catalogue.py TYPES RETIRED CARDS` reads JSON files:

- TYPES: `{"models": {name: {"class": …, "declaration": …, "types": {…}}}}`, the interface
  `AiModels` of the npm package @cloudflare/workers-types, with the TypeScript text of each model;
- RETIRED: `{"YYYY-MM-DD": [name, …], "stay_active": [name, …]}`, from Cloudflare's changelog; a
  name may be followed by "(aliased to NAME)", its successor;
- CARDS: the folder of model cards of cloudflare/cloudflare-docs (src/content/workers-ai-models), or
  one file of all of them: `{file: {"name": …, "task": …}}`.

With `--check` it only fails if the catalogue differs. Models that the files lack, and tasks that
they don't tell, are in `OTHER_MODELS`.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PROFILES = Path(__file__).parents[1] / "cfai" / "profiles.py"
REGION = re.compile(r"(?<=^# <catalogue>\n).*?(?=^# </catalogue>$)", re.MULTILINE | re.DOTALL)

OTHER_MODELS = {
    # Source: the model type list of cloudflare/workerd of 2026-08-22.
    "@cf/swiss-ai/apertus-v1.5-8b": "Text Generation",
    "@cf/utter-project/eurollm-9b-it": "Text Generation",
    # Source: the card of clef names them, and its task.
    "@cf/cloudflare/clef-flash": "Text Generation",
    "@cf/cloudflare/clef-omni": "Text Generation",
    # Source: clairic 0.1.0 on PyPI. No card was available, so the task is clef's.
    "@cf/cloudflare/clairic": "Text Generation",
    "@cf/cloudflare/clairic-flash": "Text Generation",
    # Announced without a type or a card.
    "@cf/qwen/qwen3-vl-embedding-2b": "Text Embeddings",
    # It is typed, but without a task: audio in, text out.
    "@cf/nvidia/nemotron-speech-streaming-en-0.6b": "Automatic Speech Recognition",
}

OTHER_READERS: Mapping[str, bool | None] = {
    # Source: the property "vision" of their cards in cloudflare/cloudflare-docs, and in the list of
    # models of the service.
    "@cf/google/gemma-4-26b-a4b-it": True,
    "@cf/moonshotai/kimi-k2.6": True,
    "@cf/moonshotai/kimi-k2.7-code": True,
    "@cf/qwen/qwen3.8-27b": True,
    # Source: its card: "text only models". The type of the model without "-fast" agrees.
    "@cf/meta/llama-3.1-8b-instruct-fast": False,
    # Its type has images, but its publisher names none.
    "@cf/qwen/qwq-32b": None,
    # It answers questions, and has no messages.
    "@cf/cloudflare/clef": None,
}
"""Which chat models read images, if the files don't tell it; `None` if nothing does."""

TASKS_OF_CLASSES = {
    "BaseAiImageClassification": "Image Classification",
    "BaseAiImageToText": "Image-to-Text",
    "BaseAiObjectDetection": "Object Detection",
    "BaseAiSummarization": "Summarization",
    "BaseAiTextClassification": "Text Classification",
    "BaseAiTextEmbeddings": "Text Embeddings",
    "BaseAiTextGeneration": "Text Generation",
    "BaseAiTextToImage": "Text-to-Image",
    "BaseAiTextToSpeech": "Text-to-Speech",
    "BaseAiTranslation": "Translation",
}
"""The classes that several models share; most models have a class of their own."""

_CHAT = re.compile(r"\bmessages\??:|ResponsesInput|ChatCompletions")
_IMAGES = re.compile(r"\bimage_url\??:")
# The body of OpenAI's API has images for all models that use it.
_OPENAI_BODY = re.compile(r"ResponsesInput|ChatCompletions")
_READERS = {True: " images", False: " text", None: ""}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_RETIREMENT = re.compile(r"(?P<model>\S+)(?: \(aliased to (?P<successor>\S+)\))?")


def task_of(model: str, typed: Mapping[str, Any]) -> str:
    """The task of a model that has a type and no card."""
    if task := OTHER_MODELS.get(model) or TASKS_OF_CLASSES.get(typed["class"]):
        return task
    if _CHAT.search(f"{typed['declaration']}{typed['types']}"):
        return "Text Generation"
    sys.exit(f"add the task of {model} to OTHER_MODELS: its type does not tell it")


def reads_images(model: str, typed: Mapping[str, Any], card: Mapping[str, Any]) -> bool | None:
    """Whether a chat model reads images in messages; `None` if its type and card don't tell it."""
    if model in OTHER_READERS:
        return OTHER_READERS[model]
    if any(entry["property_id"] == "vision" for entry in card.get("properties", ())):
        return True
    text = f"{typed.get('declaration', '')}{typed.get('types', '')}"
    if not text or _OPENAI_BODY.search(text):
        return None
    return bool(_IMAGES.search(text))


def task_of_card(card: Mapping[str, Any]) -> str:
    """The task of a card, which has its name, or an object with it."""
    task = card["task"]
    name: str = task["name"] if isinstance(task, Mapping) else task
    return name


def read(path: Path) -> Any:
    """Read a file of JSON, or all of a folder by their names."""
    if path.is_dir():
        return {file.name: read(file) for file in sorted(path.glob("*.json"))}
    return json.loads(path.read_text(encoding="utf-8"))


def collect(types: Any, retired: Any, cards: Any) -> str:
    """The lines of the catalogue."""
    tasks = {card["name"]: task_of_card(card) for card in cards.values() if "task" in card}
    for model, typed in types["models"].items():
        if model not in tasks:
            tasks[model] = task_of(model, typed)
    retirements: dict[str, list[str]] = {}
    successors: dict[str, str] = {}
    for date in sorted(key for key in retired if _DATE.fullmatch(key)):
        for entry in retired[date]:
            match = _RETIREMENT.fullmatch(entry)
            if match is None:
                sys.exit(f"{entry!r} must be NAME or NAME (aliased to NAME)")
            retirements.setdefault(date, []).append(match["model"])
            if match["successor"]:
                successors[match["model"]] = match["successor"]
    # The announcements don't tell tasks. All models without a type and a card are text models.
    for names in (retired["stay_active"], *retirements.values()):
        for model in names:
            tasks.setdefault(model, "Text Generation")
    tasks = OTHER_MODELS | tasks
    by_task = {
        task: [model for model in tasks if tasks[model] == task] for task in set(tasks.values())
    }
    cards_by_name = {card["name"]: card for card in cards.values() if "name" in card}
    readers = {
        model: reads_images(model, types["models"].get(model, {}), cards_by_name.get(model, {}))
        for model in set(by_task["Text Generation"]).difference(*retirements.values())
    }
    for names in by_task.values():
        names[:] = [f"{model}{_READERS[readers.get(model)]}" for model in sorted(names)]
    lines = [
        *_table("_MODELS", by_task),
        *_table("_RETIRED", retirements),
        "_SUCCESSORS = {",
        *(f'    "{model}": "{successors[model]}",' for model in sorted(successors)),
        "}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _table(name: str, groups: Mapping[str, Iterable[str]]) -> Iterable[str]:
    yield f"{name} = {{"
    for group in sorted(groups):
        yield f'    "{group}": """'
        yield from (f"        {model}" for model in sorted(groups[group]))
        yield '    """,'
    yield "}"


def main() -> None:
    """Write the catalogue, or check it."""
    paths = [argument for argument in sys.argv[1:] if argument != "--check"]
    if len(paths) != 3:
        sys.exit(__doc__)
    catalogue = collect(*(read(Path(path)) for path in paths))
    text = PROFILES.read_text(encoding="utf-8")
    new = REGION.sub(lambda _: catalogue, text)
    if "--check" not in sys.argv:
        PROFILES.write_text(new, encoding="utf-8")
    elif new != text:
        sys.exit("the catalogue is out of date: run this without --check")


if __name__ == "__main__":
    main()
