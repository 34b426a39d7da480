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
def test_a_docstring_describes_a_function(function: Callable[..., Any]) -> None:
    """In each of the three usual styles."""
    made = define_function(function)
    assert made.name == function.__name__
    assert made.description == "Say how the weather is."
    assert made.parameters == an_object(
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


def test_a_method_is_a_function_without_its_self() -> None:
    class Shop:
        def price(self, of: str) -> float:
            return float(len(of))

    made = define_function(Shop().price)
    assert (made.name, made.description) == ("price", "price")
    assert made.parameters["required"] == ["of"]


def test_what_is_given_already_is_not_told() -> None:
    """A tool may hold what is not the model's to choose: a database, the user who asks."""

    def orders(database: bytes, customer: int, since: date) -> str:
        """List the orders."""
        return f"{database!r} {customer} {since}"

    made = define_function(partial(partial(orders, database=b""), customer=7))
    assert (made.name, made.description) == ("orders", "List the orders.")
    assert list(made.parameters["properties"]) == ["since"]


def fetch(url: str, api_key: str, days: int = 3) -> DataFrame:  # type: ignore[name-defined]  # noqa: F821
    """Fetch it.

    Args:
        url (dict(str, int)): Where it is.
    """


def test_what_a_partial_binds_is_not_told_and_not_asked_for() -> None:
    """It may be a secret, or whose things a tool may touch; and it has a name and a docstring."""
    made = define_function(partial(fetch, api_key="sk-secret"))
    assert (made.name, made.description) == ("fetch", "Fetch it.")
    assert made.parameters == an_object(
        ["url"],
        url={"type": "string", "description": "Where it is."},
        days={"type": "integer", "default": 3},
    )
    assert [one.name for one in made.fields] == ["url", "days"]
    assert define_function(partial(fetch, "here")).parameters["required"] == ["api_key"]


def test_what_a_wrapped_partial_binds_is_not_told_either() -> None:
    inner = partial(fetch, api_key="sk-secret")

    @wraps(inner)
    def retried(*args: Any, **keywords: Any) -> Any:
        return inner(*args, **keywords)

    made = define_function(partial(retried, days=1), name="fetch")
    assert list(made.parameters["properties"]) == ["url"]


class Weather:
    """Where it comes from."""

    def __call__(self, city: str, days: int = None) -> str:  # type: ignore[assignment]  # noqa: RUF013
        """Say how it is.
        Returns: A sentence.

        Args:
            city: Its name.
        """
        return f"{city}{days}"


def test_a_value_that_can_be_called_says_how_at_its_method() -> None:
    """And a default of `None` is one that the model may give."""
    made = define_function(Weather())
    assert (made.name, made.description) == ("Weather", "Say how it is.")
    assert made.parameters == an_object(
        ["city"],
        city={"type": "string", "description": "Its name."},
        days={"anyOf": [{"type": "integer"}, NULL]},
    )


def test_quoted_types_of_parameters_are_resolved() -> None:
    def plant(tree: list[Node], depth: int | None = 3) -> None: ...

    made = define_function(plant)
    assert [one.kind for one in made.fields] == [list[Node], int | None]


def test_a_default_that_does_not_fit_is_not_told() -> None:
    """A model may send it back, and JSON lacks some."""

    def tool(a: int = "no", b: float = math.inf, c: float = math.nan, d: float = 1) -> None: ...  # type: ignore[assignment]

    properties = define_function(tool).parameters["properties"]
    assert [name for name, said in properties.items() if "default" in said] == ["d"]


def test_what_an_annotation_raises_is_an_error_of_ours() -> None:
    def tool(a: int) -> None: ...

    for said, says in (("pytest.Nope", "no attribute 'Nope'"), ("1/0", "division by zero")):
        tool.__annotations__["a"] = said
        with pytest.raises(InputError, match=f"tool: can't read its signature: .*{says}"):
            define_function(tool)
