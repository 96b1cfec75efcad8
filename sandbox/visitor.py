"""RestrictedPython's transformer, walked faster, and with refusals that have a line and a kind."""

from __future__ import annotations

import ast
from typing import Any, Literal, NamedTuple, TypeVar

from RestrictedPython.transformer import RestrictingNodeTransformer

Kind = Literal["syntax", "import", "escape", "construct"]
_Node = TypeVar("_Node", bound=ast.AST)

# Nodes without contents, all allowed by the parent: most nodes of a program are of these.
_LEAVES = frozenset(
    leaf
    for family in (ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop)
    for leaf in family.__subclasses__()
    if hasattr(RestrictingNodeTransformer, f"visit_{leaf.__name__}")
)

INSTEAD = {
    "AsyncFunctionDef": "async functions are not allowed; use def",
    "AsyncFor": "async for is not allowed; use for",
    "AsyncWith": "async with is not allowed; use with",
    "Await": "await is not allowed; call the function",
    "Match": "match statements are not allowed; use if and elif",
    "ParamSpec": "type parameters are not allowed; leave them out",
    "TryStar": "except* is not allowed; use except",
    "TypeAlias": "type statements are not allowed; use an assignment",
    "TypeVar": "type parameters are not allowed; leave them out",
    "TypeVarTuple": "type parameters are not allowed; leave them out",
}


class Refusal(NamedTuple):
    """Why a program is not compiled."""

    line: int
    kind: Kind
    message: str


class Visitor(RestrictingNodeTransformer):
    """Visits every node once, in place; a node without a visitor is refused.

    Every visitor gives one node for one node, which is all that the walk here can take.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[Refusal] = []

    def refuse(self, node: ast.AST, message: str | None, kind: Kind = "construct") -> None:
        """Notes why a node is refused; None: it is not."""
        if message:
            self.refusals.append(Refusal(getattr(node, "lineno", 1), kind, message))

    def error(self, node: ast.AST, info: str) -> None:
        """What the parent refuses."""
        self.refuse(node, info)

    def not_allowed(self, node: ast.AST) -> None:
        """Refuses a kind of node altogether."""
        name = type(node).__name__
        self.refuse(node, INSTEAD.get(name, f"{name} is not allowed"))

    def node_contents_visit(self, node: _Node) -> _Node:
        """Visits what is in a node: as `NodeTransformer.generic_visit`, less what it need not."""
        for field in node._fields:
            value: Any = getattr(node, field, None)
            if isinstance(value, list):
                value[:] = [self.visit(x) if isinstance(x, ast.AST) else x for x in value]
            elif isinstance(value, ast.AST) and type(value) not in _LEAVES:
                setattr(node, field, self.visit(value))
        return node
