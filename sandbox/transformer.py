"""RestrictedPython's transformer, extended: accepts what models write, elides guards of no effect.

RestrictedPython routes every item, iteration, unpacking, call with stars, attribute and store
through a hook. Here the hooks that would return what they are given are left out, because what
they would check is known when the program is compiled. Two remain at run time:

- `_getattr_(x, name)` for `format` and `format_map`, which walk attributes by a string, and for
  private names of anything but `self` and `cls`;
- `_write_(x)` for every attribute set or deleted: a program changes its own objects only.

A node without a visitor is refused, so that syntax of a new Python stays out until looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

from RestrictedPython.transformer import RestrictingNodeTransformer
from taskgym.sandbox.modules import import_refused, name_refused
from taskgym.sandbox.names import (
    FORMATTERS,
    METHODS,
    attribute_refused,
    private,
    variable_refused,
)

Refusal = tuple[int, Literal["import", "construct"], str]
Scope = Literal["module", "class", "function"]

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

INSTEAD = {
    "AsyncFunctionDef": "async functions are not allowed; use def",
    "AsyncFor": "async for is not allowed; use for",
    "AsyncWith": "async with is not allowed; use with",
    "Await": "await is not allowed; call the function",
    "Match": "match statements are not allowed; use if and elif",
    "TryStar": "except* is not allowed; use except",
    "TypeAlias": "type statements are not allowed; use an assignment",
    "TypeVar": "type parameters are not allowed; leave them out",
}


class Transformer(RestrictingNodeTransformer):
    """Checks a module in place; what it refuses is in `refusals`."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[Refusal] = []
        self._scope: Scope = "module"
        self._bound: set[str] = set()

    # --- the walk -------------------------------------------------------------------------------

    def visit_Module(self, node: ast.Module) -> ast.AST:
        """Looks up first which names the program binds anywhere."""
        self._bound = set(_bound_names(node))
        return self.node_contents_visit(node)

    def error(self, node: ast.AST, info: str) -> None:
        """Keeps a refusal: the parent's are texts, ours have a line and a kind."""
        self.refuse(node, info)

    def refuse(
        self, node: ast.AST, message: str | None, kind: Literal["import", "construct"] = "construct"
    ) -> None:
        """Notes why a node is refused; None: it is not."""
        if message:
            self.refusals.append((getattr(node, "lineno", 0), kind, message))

    def not_allowed(self, node: ast.AST) -> None:
        """Refuses a kind of node altogether."""
        name = type(node).__name__
        self.refuse(node, INSTEAD.get(name, f"{name} is not allowed"))

    @contextmanager
    def _within(self, scope: Scope) -> Iterator[None]:
        outer, self._scope = self._scope, scope
        yield
        self._scope = outer

    # --- names ----------------------------------------------------------------------------------

    def check_name(self, node: Any, name: str | None, allow_magic_methods: bool = False) -> None:
        """The parent asks this of every name that is bound."""
        if name is None or (self._scope == "class" and name in METHODS):
            return
        self.refuse(node, variable_refused(name))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A variable."""
        if node.id in REFUSED_BUILTINS and node.id not in self._bound:
            self.refuse(node, f"{node.id!r} is not allowed; {REFUSED_BUILTINS[node.id]}")
        elif not (node.id == "__name__" and isinstance(node.ctx, ast.Load)):
            self.check_name(node, node.id)
        return node

    def visit_Global(self, node: ast.Global) -> ast.AST:
        """Names are only named here, without a Name node."""
        for name in node.names:
            self.check_name(node, name)
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        """As global."""
        for name in node.names:
            self.check_name(node, name)
        return node

    # --- attributes -----------------------------------------------------------------------------

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Checks the name; keeps the hooks of reads that need one and of every write."""
        load = isinstance(node.ctx, ast.Load)
        if not (load and (node.attr == "__name__" or _is_super_method(node))):
            self.refuse(node, attribute_refused(node.attr))
        self.node_contents_visit(node)
        if not load:
            node.value = _call("_write_", node.value)
        elif _needs_hook(node):
            return ast.copy_location(_call("_getattr_", node.value, ast.Constant(node.attr)), node)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """Items, attributes and names, without hooks but for the write."""
        if isinstance(node.target, ast.Attribute) and node.target.attr in FORMATTERS:
            self.refuse(node, f"augmented assignment to {node.target.attr!r} is not allowed")
        return self.node_contents_visit(node)

    # --- guards left out ------------------------------------------------------------------------

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Items need no guard: a program holds no container but its own."""
        return self.node_contents_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Unpacking needs no guard; `__slots__` of a class is checked by its strings."""
        if self._scope == "class" and _is_slots(node):
            if not _plain_slots(node.value):
                self.refuse(node, "__slots__ takes a literal tuple or list of ordinary names")
            return node
        return self.node_contents_visit(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        """Iteration needs no guard."""
        return self.node_contents_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """As for."""
        if node.is_async:
            self.refuse(node.target, "async comprehensions are not allowed; leave out async")
        return self.node_contents_visit(node)

    def visit_With(self, node: ast.With) -> ast.AST:
        """Unpacking needs no guard."""
        return self.node_contents_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Calls with stars need no guard."""
        if isinstance(node.func, ast.Name) and node.func.id in {"exec", "eval"}:
            advice = REFUSED_BUILTINS[node.func.id]
            self.refuse(node, f"calls of {node.func.id!r} are not allowed; {advice}")
        return self.node_contents_visit(node)

    # --- functions and classes ------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Drops annotations; the body is a scope of its own."""
        self.check_name(node, node.name)
        node.returns = None
        node.args = self.visit(node.args)
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        for each in getattr(node, "type_params", ()):
            self.visit(each)
        with self._within("function"):
            node.body = self._statements(node.body)
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """As def."""
        with self._within("function"):
            return self.node_contents_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """An argument of any kind; its annotation is dropped."""
        self.refuse(node, variable_refused(node.arg))
        node.annotation = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Takes no keywords, above all no metaclass; the guards note the class when it is made."""
        self.check_name(node, node.name)
        if node.keywords:
            self.refuse(node, "keywords of a class, such as metaclass, are not allowed")
        node.bases = [self.visit(each) for each in node.bases]
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        for each in getattr(node, "type_params", ()):
            self.visit(each)
        with self._within("class"):
            node.body = self._statements(node.body)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Annotations are never evaluated; a class keeps the names, which NamedTuple reads."""
        if self._scope == "class" and node.simple:
            node.annotation = ast.Constant(None)
            return self.node_contents_visit(node)
        if node.value is None:
            self.visit(node.target)
            return ast.copy_location(ast.Pass(), node)
        return self.visit(  # type: ignore[no-any-return]
            ast.copy_location(ast.Assign([node.target], node.value), node)
        )

    def _statements(self, body: list[ast.stmt]) -> list[ast.stmt]:
        kept = [self.visit(each) for each in body]
        return [each for each in kept if each is not None] or [ast.Pass()]

    # --- imports --------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> ast.AST:
        """Modules that the guards have a facade for."""
        for each in node.names:
            self.refuse(node, import_refused(each.name), "import")
            self.check_name(node, each.asname)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Names that the facade has; `__future__` is dropped, as its features are in force."""
        if node.module == "__future__":
            return ast.copy_location(ast.Pass(), node)
        module = "." * node.level + (node.module or "")
        if refusal := import_refused(module):
            self.refuse(node, refusal, "import")
            return node
        for each in node.names:
            self.refuse(node, name_refused(module, each.name), "import")
            self.check_name(node, each.asname)
        return node


def _call(hook: str, *args: ast.expr) -> ast.Call:
    return ast.copy_location(ast.Call(ast.Name(hook, ast.Load()), list(args), []), args[0])


def _needs_hook(node: ast.Attribute) -> bool:
    if node.attr in FORMATTERS:
        return True
    own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
    return private(node.attr) and not node.attr.startswith("__") and not own


def _is_super_method(node: ast.Attribute) -> bool:
    """`super().__add__` and the like, and `Base.__init__`."""
    called = isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
    if called and cast(Any, node.value).func.id == "super":
        return node.attr in METHODS
    return node.attr == "__init__" and isinstance(node.value, ast.Name)


def _is_slots(node: ast.Assign) -> bool:
    first = node.targets[0]
    return len(node.targets) == 1 and isinstance(first, ast.Name) and first.id == "__slots__"


def _plain_slots(value: ast.expr) -> bool:
    names = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
    return all(
        isinstance(each, ast.Constant)
        and isinstance(each.value, str)
        and attribute_refused(each.value) is None
        for each in names
    )


def _bound_names(tree: ast.AST) -> Iterator[str]:
    """Names that some scope of the program assigns, takes as an argument, defines or imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
