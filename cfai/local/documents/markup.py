"""HTML as Markdown, and XML as a block of code."""

import codecs
import re
from xml.parsers import expat

from cfai.local.documents.values import File, Wanted

_HIDDEN = ("script", "style", "head")


def html(file: File, wanted: Wanted) -> str:
    """Convert a page."""
    return page(file.data, wanted)


def page(markup: bytes | str, wanted: Wanted, *, infer_heads: bool = False) -> str:
    """Convert HTML; with *infer_heads*, the first row of a table that names none is its head."""
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(markup, "html.parser")
    for hidden in soup(_HIDDEN):
        hidden.decompose()
    if wanted.plain:
        return soup.get_text("\n", strip=True)
    converter = MarkdownConverter(heading_style="ATX", table_infer_header=infer_heads)
    return str(converter.convert_soup(soup)).strip() + "\n"


def xml(file: File, wanted: Wanted) -> str:
    """Give the source as it is, since nothing says what the elements of some XML mean."""
    text = _decoded(file.data)
    if wanted.plain:
        return text
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}xml\n{text.strip()}\n{fence}\n"


def _decoded(data: bytes) -> str:
    """Decode what is well-formed XML.

    Raises:
        expat.ExpatError: It is not.
    """
    encodings: list[str] = []
    parser = expat.ParserCreate()
    parser.XmlDeclHandler = lambda version, encoding, alone: encodings.append(encoding or "")
    parser.Parse(data, True)
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16")
    return data.decode("".join(encodings) or "utf-8").removeprefix("\ufeff")
