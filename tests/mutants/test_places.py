"""Which changes of the code are drawn, and that each of them is a change."""

import ast
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("cosmic_ray")

from tests.mutants.places import OPERATORS, Mutation, draw_sample, find_mutations, part_of

SOURCE = '''\
"""A docstring."""
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    x: int | None = 1

def find(a: int | str = 2) -> int | None:
    """Not this."""
    if a and not done:
        raise ValueError(3)
    print(a)
    b: int | str
    return a + 1
'''


def mutated(path: Path, operator: str) -> list[str]:
    found = [m for place in find_mutations(path).values() for m in place if m.operator == operator]
    return [mutation.apply(path.read_text()) for mutation in found]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    return path


def test_statements_and_results_are_removed(module: Path) -> None:
    """Inside functions, and no docstring."""
    raised, printed = mutated(module, "DeleteStatement")
    assert raised == SOURCE.replace("raise ValueError(3)", "pass")
    assert printed == SOURCE.replace("print(a)", "pass")
    assert mutated(module, "ReturnNone") == [SOURCE.replace("return a + 1", "return None")]


def test_what_no_test_can_notice_is_left_out(module: Path) -> None:
    """Annotations, and what is only for type checkers."""
    for place in find_mutations(module).values():
        for mutation in place:
            changed = mutation.apply(SOURCE)
            assert changed != SOURCE
            ast.parse(changed)
            assert "int | str = " in changed
            assert "-> int | None:" in changed
            assert "b: int | str\n" in changed
            assert "x: int | None = 1" in changed


def test_every_part_is_drawn_and_a_seed_repeats_the_sample() -> None:
    paths = [*Path("cfai/web").glob("*.py"), *Path("cfai/tools").glob("*.py"), Path("cfai/meta.py")]
    sample = draw_sample(paths, 30, Random("a"), least=3)
    assert {part_of(mutation.path) for mutation in sample} == {"web", "tools", "cfai"}
    assert sample == draw_sample(paths, 30, Random("a"), least=3)
    assert sample != draw_sample(paths, 30, Random("b"), least=3)
    assert all(isinstance(mutation, Mutation) for mutation in sample)
    assert {mutation.operator for mutation in sample} <= OPERATORS.keys()
