"""JSON schemas of Python's types, and the definitions of tools from the signatures of functions."""

from cfai._schemas.signatures import (
    Definition as Definition,
    definition as definition,
)
from cfai._schemas.types import (
    schema as schema,
)
