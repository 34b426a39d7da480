"""PDF: the text of its pages, in the order in which it was written into the file."""

import io
from typing import Any

from cfai.local.documents.values import File, Wanted

_FACTS = ("title", "author", "subject", "creator", "producer", "creation_date")


def pdf(file: File, wanted: Wanted) -> str:
    """Convert a PDF: a heading for each page, and its text; no tables, and no headings of its own.

    Raises:
        ValueError: No page has any text.
    """
    import pypdf

    reader = pypdf.PdfReader(io.BytesIO(file.data))
    pages = [page.extract_text().strip() for page in reader.pages]
    if not any(pages):
        raise ValueError("no page has text; pictures of text are not read here")
    if wanted.plain:
        return "\n\n".join(pages) + "\n"
    parts = [f"# {file.name}"]
    if wanted.metadata and (facts := _facts(reader.metadata)):
        parts += ["## Metadata", "\n".join(facts)]
    parts.append("## Contents")
    for number, text in enumerate(pages, 1):
        parts += [f"### Page {number}", text] if text else [f"### Page {number}"]
    return "\n\n".join(parts) + "\n"


def _facts(metadata: Any) -> list[str]:
    said = {name: getattr(metadata, name, None) for name in _FACTS}
    return [f"- {name}: {' '.join(str(value).split())}" for name, value in said.items() if value]
