"""RestrictedPython's transformer, extended: accepts what models write, elides guards of no effect.

RestrictedPython routes every item, iteration, unpacking, call with stars, attribute and store
through a hook. Here the hooks that would return what they are given are left out, because what
they would check is known when the program is compiled. Two remain at run time:

- `_getattr_(x, name)` for `format` and `format_map`, which walk attributes by a string, for
  `register` of abstract classes, for `Base.__init__`, and for private names of anything but
  `self` and `cls`;
- `_write_(x)` where attributes are set or deleted: a program changes its own objects only.

A node without a visitor is refused, so that syntax of a new Python stays out until looked at.
"""

from __future__ import annotations

import ast

from taskgym.sandbox.definitions import Definitions, call_hook
from taskgym.sandbox.names import (
    FORMATTERS,
    HOOKED,
    METHODS,
    attribute_refused,
    kind_of,
    private,
    variable_refused,
)

# Builtins that reach the interpreter, files or names by a string. A program may use the word for
# a variable of its own; where it binds none, the word can only mean the builtin.
REFUSED_BUILTINS = {
    "__import__": "write an import statement",
    "breakpoint": "print instead",
    "compile": "write the code itself",
    "eval": "use int(), float() or json.loads() to read values",
    "exec": "write the code itself",
    "globals": "use a dict",
    "locals": "use a dict",
    "open": "programs have no files",
    "vars": "use a dict",
}

_READ_ONLY = frozenset({"__name__", "super"})  # names that may be read, and never bound


class Transformer(Definitions):
    """Checks a module in place; what it refuses is in `refusals`."""

    def __init__(self) -> None:
        super().__init__()
        self._suspects: list[ast.Name] = []

    def visit_Module(self, node: ast.Module) -> ast.AST:
        """Judges last the names that mean a refused builtin unless the program binds them."""
        self.node_contents_visit(node)
        for each in self._suspects:
            if each.id not in self.bound:
                advice = REFUSED_BUILTINS[each.id]
                self.refuse(each, f"{each.id!r} is not allowed; {advice}", "escape")
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A variable."""
        if not isinstance(node.ctx, ast.Load):
            self.check_name(node, node.id)
        elif node.id in REFUSED_BUILTINS:
            self._suspects.append(node)
        elif node.id not in _READ_ONLY and not (self.scope == "class" and node.id in METHODS):
            self.refuse(node, variable_refused(node.id), kind_of(node.id))
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Checks the name; keeps the hooks of reads that need one and of every write."""
        load = isinstance(node.ctx, ast.Load)
        if not (load and (node.attr == "__name__" or _is_super_method(node))):
            plain = node.attr == "__class__" and _is_name(node.value, "self")
            kind = "construct" if plain else kind_of(node.attr)
            self.refuse(node, attribute_refused(node.attr), kind)
        self.node_contents_visit(node)
        if load and _needs_hook(node):
            read = call_hook("_getattr_", node.value, ast.Constant(node.attr))
            return ast.copy_location(read, node)
        if not load and self.self_stores is not None and _is_name(node.value, "self"):
            self.self_stores.append(node)
        elif not load:
            node.value = call_hook("_write_", node.value)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """Items, attributes and names; the value of a format method is not to be had this way."""
        if isinstance(node.target, ast.Attribute) and node.target.attr in FORMATTERS:
            self.refuse(node, f"augmented assignment to {node.target.attr!r} is not allowed")
        return self.node_contents_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Calls with stars need no guard."""
        if isinstance(node.func, ast.Name) and node.func.id in {"exec", "eval"}:
            advice = REFUSED_BUILTINS[node.func.id]
            self.refuse(node, f"calls of {node.func.id!r} are not allowed; {advice}", "escape")
        return self.node_contents_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Items need no guard: a program can reach no container but its own."""
        return self.node_contents_visit(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        """Iteration and unpacking need no guard."""
        return self.node_contents_visit(node)

    def visit_With(self, node: ast.With) -> ast.AST:
        """As for."""
        return self.node_contents_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """As for, and not async."""
        if node.is_async:
            self.refuse(node.target, "async comprehensions are not allowed; leave out async")
        return self.node_contents_visit(node)


def _is_name(node: ast.expr, *names: str) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def _needs_hook(node: ast.Attribute) -> bool:
    if node.attr in HOOKED or (node.attr == "__init__" and not _is_plain_super(node.value)):
        return True
    # Of `__x` the compiler makes `_Class__x`, a name that nothing outside the program has.
    single = private(node.attr) and not node.attr.startswith("__")
    return single and not _is_name(node.value, "self", "cls")


def _is_plain_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _is_name(node.func, "super") and not node.args


def _is_super_method(node: ast.Attribute) -> bool:
    """`super().__add__` and the like, and `Base.__init__`."""
    if isinstance(node.value, ast.Call) and _is_name(node.value.func, "super"):
        return node.attr in METHODS
    return node.attr == "__init__" and isinstance(node.value, ast.Name)
