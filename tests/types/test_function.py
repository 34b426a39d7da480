"""Tool definitions from functions: names, docstrings, types, partials."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date
from functools import partial, wraps
from typing import (
    Annotated,
    Any,
    Literal,
)

import pytest

from cfai._types.function import define_function
from cfai.errors import InputError
from tests.types.classes import (
    NULL,
    Node,
    an_object,
)


def google(
    city: Annotated[str, "Its name."], days: int = 3, *, unit: Literal["c", "f"] = "c"
) -> str:
    """Say how the
    weather is.

    It may rain.

    Args:
        city: Not used: the annotation says it already.
        days (int, optional): How many days
            ahead.
        unit: Celsius or Fahrenheit.

    Returns:
        unit: No parameter.
    """
    return f"{city}{days}{unit}"


def numpy(city: str, days: int = 3, *, unit: Literal["c", "f"] = "c") -> str:
    """Say how the weather is.

    Parameters
    ----------
    city : str
        Its name.
    days, unused : int, optional
        How many days
        ahead.
    unit
        Celsius or Fahrenheit.

    Returns
    -------
    unit : str
        No parameter.
    """
    return f"{city}{days}{unit}"


def sphinx(city: str, days: int = 3, *, unit: Literal["c", "f"] = "c") -> str:
    """Say how the weather is.
    :param str city: Its name.
    :param days: How many days
        ahead.
    :param unit: Celsius or Fahrenheit.
    :returns: No parameter.
    """
    return f"{city}{days}{unit}"


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_docstrings_of_three_styles_describe_parameters(function: Callable[..., Any]) -> None:
    """Google's style, NumPy's and Sphinx's."""
    definition = define_function(function)
    assert definition.name == function.__name__
    assert definition.description == "Say how the weather is."
    assert definition.parameters == an_object(
        ["city"],
        city={"type": "string", "description": "Its name."},
        days={"type": "integer", "description": "How many days ahead.", "default": 3},
        unit={
            "type": "string",
            "enum": ["c", "f"],
            "description": "Celsius or Fahrenheit.",
            "default": "c",
        },
    )


def test_methods_have_no_self_parameter() -> None:
    class Shop:
        def price(self, of: str) -> float:
            return float(len(of))

    definition = define_function(Shop().price)
    assert (definition.name, definition.description) == ("price", "price")
    assert definition.parameters["required"] == ["of"]


def test_arguments_bound_by_nested_partials_are_left_out() -> None:
    """A tool may bind what the model must not choose: a database, the current user."""

    def orders(database: bytes, customer: int, since: date) -> str:
        """List the orders."""
        return f"{database!r} {customer} {since}"

    definition = define_function(partial(partial(orders, database=b""), customer=7))
    assert (definition.name, definition.description) == ("orders", "List the orders.")
    assert list(definition.parameters["properties"]) == ["since"]


def fetch(url: str, api_key: str, days: int = 3) -> DataFrame:  # type: ignore[name-defined]  # noqa: F821
    """Fetch it.

    Args:
        url (dict(str, int)): Where it is.
    """


def test_arguments_bound_by_a_partial_are_left_out() -> None:
    """They may be secrets; name and docstring are those of the function."""
    definition = define_function(partial(fetch, api_key="sk-secret"))
    assert (definition.name, definition.description) == ("fetch", "Fetch it.")
    assert definition.parameters == an_object(
        ["url"],
        url={"type": "string", "description": "Where it is."},
        days={"type": "integer", "default": 3},
    )
    assert [field.name for field in definition.fields] == ["url", "days"]
    assert define_function(partial(fetch, "here")).parameters["required"] == ["api_key"]


def test_arguments_bound_inside_a_wrapper_are_left_out() -> None:
    inner = partial(fetch, api_key="sk-secret")

    @wraps(inner)
    def retried(*args: Any, **keywords: Any) -> Any:
        return inner(*args, **keywords)

    definition = define_function(partial(retried, days=1), name="fetch")
    assert list(definition.parameters["properties"]) == ["url"]


class Weather:
    """Where it comes from."""

    def __call__(self, city: str, days: int = None) -> str:  # type: ignore[assignment]  # noqa: RUF013
        """Say how it is.
        Returns: A sentence.

        Args:
            city: Its name.
        """
        return f"{city}{days}"


def test_callable_objects_use_the_docstring_of_call() -> None:
    """A default of `None` makes the type optional."""
    definition = define_function(Weather())
    assert (definition.name, definition.description) == ("Weather", "Say how it is.")
    assert definition.parameters == an_object(
        ["city"],
        city={"type": "string", "description": "Its name."},
        days={"anyOf": [{"type": "integer"}, NULL]},
    )


def test_quoted_annotations_of_parameters_are_resolved() -> None:
    def plant(tree: list[Node], depth: int | None = 3) -> None: ...

    definition = define_function(plant)
    assert [field.kind for field in definition.fields] == [list[Node], int | None]


def test_invalid_defaults_are_left_out() -> None:
    """A model may send the default back, and JSON has no NaN."""

    def tool(a: int = "no", b: float = math.inf, c: float = math.nan, d: float = 1) -> None: ...  # type: ignore[assignment]

    properties = define_function(tool).parameters["properties"]
    assert [name for name, schema in properties.items() if "default" in schema] == ["d"]


def test_errors_in_annotations_are_input_errors() -> None:
    def tool(a: int) -> None: ...

    for annotation, message in (
        ("pytest.Nope", "no attribute 'Nope'"),
        ("1/0", "division by zero"),
    ):
        tool.__annotations__["a"] = annotation
        with pytest.raises(InputError, match=f"tool: can't read its signature: .*{message}"):
            define_function(tool)
