"""How Sphinx builds these pages."""

import re
from typing import Any

from cfai import __version__

project = "cfai"
author = "The cfai authors"
copyright = "The cfai authors"  # noqa: A001  # Sphinx's name for it
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "**/node_modules"]

html_theme = "furo"
html_title = f"cfai {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
default_role = "code"

# Links into other projects' documentation would need the network to build these pages.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!cfai\b).*"),
    ("py:.*", r"cfai\.(.*\.)?_.*"),
    ("py:.*", r"cfai\.(settings\.Unset|local\.backends\..*)"),
    # Signatures name classes of private modules inside packages; those of `web` are public.
    ("py:.*", r"cfai\.(?!web\b)[a-z]+\.[a-z_]+\..*"),
    ("py:.*", r"cfai\..*\.([A-Z]|[A-Z]\w*_co)"),  # type variables
]
# Python's `type[...]` in a signature also matches the attributes called `type` of several classes.
suppress_warnings = ["ref.python"]


def fences_to_directives(
    app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings mark code the way these pages do; autodoc reads reStructuredText."""
    if what in {"attribute", "data", "property"}:
        # napoleon would take what stands before a colon for the type; an empty comment has none.
        lines[:0] = ["..", ""]
    inside = False
    for number, line in enumerate(lines):
        fence = re.fullmatch(r"```(\w*)", line)
        if fence:
            inside = bool(fence[1])
            lines[number] = f".. code-block:: {fence[1]}\n" if inside else ""
        elif inside:
            lines[number] = f"   {line}"
    lines[:] = "\n".join(lines).split("\n")


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", fences_to_directives, priority=400)
