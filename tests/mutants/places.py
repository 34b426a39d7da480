"""Where the code can be changed: the places of Cosmic Ray's operators and of two more."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

import parso
from attrs import frozen
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names


class DeleteStatement(Operator):  # type: ignore[misc]  # Cosmic Ray has no types
    """Replaces a call, an assignment, a `raise` or a `del` inside a function by `pass`."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Give the place of the statement."""
        if node.type == "simple_stmt" and _is_inside_function(node):
            statement = node.children[0]
            if statement.type in ("expr_stmt", "atom_expr", "raise_stmt", "del_stmt", "await_stmt"):
                yield statement.start_pos, statement.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Replace the statement."""
        statement = node.children[0]
        prefix = statement.get_first_leaf().prefix
        node.children[0] = parso.python.tree.Keyword("pass", statement.start_pos, prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """No examples: they are for Cosmic Ray's own tests."""
        return ()


class ReturnNone(Operator):  # type: ignore[misc]  # Cosmic Ray has no types
    """Replaces a returned value by `None`."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Give the place of the value."""
        if node.type == "return_stmt" and node.children[1].get_code().strip() != "None":
            yield node.children[1].start_pos, node.children[1].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Replace the value."""
        value = node.children[1]
        node.children[1] = parso.python.tree.Keyword("None", value.start_pos, " ")
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """No examples: they are for Cosmic Ray's own tests."""
        return ()


def _is_inside_function(node: Any) -> bool:
    while node is not None and node.type != "funcdef":
        node = node.parent
    return node is not None


# What is equal is the same object, mostly: singletons and what the interpreter keeps only once.
_EQUIVALENT: Final = ("_Eq_Is", "_NotEq_IsNot", "_Is_Eq", "_IsNot_NotEq")


def _load_operators() -> dict[str, Operator]:
    operators = {
        name.partition("/")[2]: get_operator(name)()
        for name in operator_names()
        # Those with arguments are for variables that one names.
        if not get_operator(name).arguments() and not name.endswith(("/NoOp", *_EQUIVALENT))
    }
    return {**operators, "DeleteStatement": DeleteStatement(), "ReturnNone": ReturnNone()}


OPERATORS: Final = _load_operators()


@frozen
class Mutation:
    """One change of one place."""

    path: Path
    line: int
    operator: str
    occurrence: int
    """Which place of the operator in the file."""

    def apply(self, source: str) -> str:
        """Return the changed source code."""
        operator = OPERATORS[self.operator]
        changed = MutationVisitor.mutate_code(source, operator, self.occurrence)
        assert isinstance(changed, str)
        return changed


def find_mutations(path: Path) -> dict[tuple[int, int], list[Mutation]]:
    """Return the mutations of a file by their place: line and column.

    What no test can notice is left out: type annotations, imports for type checkers, overloads.
    """
    source = path.read_text("utf-8")
    ignored = list(_ignored_lines(ast.parse(source)))
    nodes = list(ast_nodes(get_ast(source)))
    places: dict[tuple[int, int], list[Mutation]] = {}
    for name, operator in OPERATORS.items():
        positions = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, start in enumerate(positions):
            if not any(first <= start < last for first, last in ignored):
                mutation = Mutation(path, start[0], name, occurrence)
                places.setdefault(start, []).append(mutation)
    return places


_Range = tuple[tuple[int, int], tuple[int, int]]


def _ignored_lines(tree: ast.Module) -> Iterator[_Range]:
    for node in ast.walk(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield _range(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names = {ast.unparse(decorator) for decorator in node.decorator_list}
                if "overload" in names:
                    first = node.decorator_list[0]
                    yield (first.lineno, 0), _range(node)[1]
                yield from map(_range, filter(None, [node.returns]))
            case ast.arg(annotation=ast.expr() as annotation):
                yield _range(annotation)
            case ast.AnnAssign(value=None):
                yield _range(node)
            case ast.AnnAssign(annotation=annotation):
                yield _range(annotation)
            case ast.Assign(targets=[ast.Name(id="__all__" | "__version__")]):
                yield _range(node)
            case ast.Assign(value=ast.BinOp(op=ast.BitOr())):
                yield _range(node)  # The name of a union.


def _range(node: Any) -> _Range:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def part_of(path: Path) -> str:
    """The part of the package that a module belongs to: its folder, or "cfai"."""
    return path.parts[1] if len(path.parts) > 2 else "cfai"


def draw_sample(
    paths: Iterable[Path], count: int, random: Random, *, least: int = 6
) -> list[Mutation]:
    """Draw *count* mutations: from each part in proportion to its places, but at least *least*."""
    parts: dict[str, list[list[Mutation]]] = {}
    for path in sorted(paths):
        parts.setdefault(part_of(path), []).extend(find_mutations(path).values())
    total = sum(map(len, parts.values()))
    spare = max(0, count - least * len(parts))
    sample = []
    for places in parts.values():
        share = least + round(spare * len(places) / total)
        drawn = random.sample(places, min(share, len(places)))
        sample += [random.choice(mutations) for mutations in drawn]
    random.shuffle(sample)
    return sample[:count]
