"""The part of the transformer that reads what a program defines: names, functions, classes."""

from __future__ import annotations
import __future__

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from taskgym.sandbox.modules import import_refused, name_refused
from taskgym.sandbox.names import METHODS, attribute_refused, variable_refused
from taskgym.sandbox.visitor import Kind, Visitor

Scope = Literal["module", "class", "function"]


class Definitions(Visitor):
    """Checks every name that is bound; drops annotations; refuses metaclasses and odd imports."""

    def __init__(self) -> None:
        super().__init__()
        self.scope: Scope = "module"
        self.bound: set[str] = set()
        self.self_rebound = 0  # how often the name `self` was bound other than as an argument
        self.self_stores: list[ast.Attribute] | None = None  # None where `self` is no argument

    @contextmanager
    def _within(self, scope: Scope, stores: list[ast.Attribute] | None) -> Iterator[None]:
        outer = self.scope, self.self_stores
        self.scope, self.self_stores = scope, stores
        yield
        self.scope, self.self_stores = outer

    def check_name(self, node: Any, name: str | None, allow_magic_methods: bool = False) -> None:
        """The parent asks this of every name that is bound."""
        if name is None:
            return
        self.bound.add(name)
        self.self_rebound += name == "self"
        if not (self.scope == "class" and name in METHODS):
            self.refuse(node, variable_refused(name))

    def visit_Global(self, node: ast.Global) -> ast.AST:
        """Here names stand without Name nodes."""
        for name in node.names:
            self.check_name(node, name)
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        """As global."""
        for name in node.names:
            self.check_name(node, name)
        return node

    # --- functions and classes ------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Drops annotations; one check of `self` stands for the hooks of all stores to it."""
        self.check_name(node, node.name)
        node.returns = None
        node.args = self.visit(node.args)
        self._visit_all(node.decorator_list)
        self._visit_all(getattr(node, "type_params", []))
        stores: list[ast.Attribute] = []
        rebound = self.self_rebound
        with self._within("function", stores if _takes_self(node.args) else None):
            self._visit_all(node.body)
        if rebound != self.self_rebound:
            for each in stores:
                each.value = call_hook("_write_", each.value)
        elif stores:
            check = ast.copy_location(ast.Name("self", ast.Load()), node.body[0])
            node.body.insert(0, ast.copy_location(ast.Expr(call_hook("_write_", check)), check))
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """As def."""
        with self._within("function", None):
            return self.node_contents_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """An argument of any kind; its annotation is dropped."""
        self.bound.add(node.arg)
        self.refuse(node, variable_refused(node.arg))
        node.annotation = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Takes no keywords, above all no metaclass; the guards note the class when it is made."""
        self.check_name(node, node.name)
        for each in node.keywords:
            kind: Kind = "construct" if each.arg not in (None, "metaclass") else "escape"
            self.refuse(node, "keywords of a class, such as metaclass, are not allowed", kind)
        self._visit_all(node.bases)
        self._visit_all(node.decorator_list)
        self._visit_all(getattr(node, "type_params", []))
        with self._within("class", None):
            self._visit_all(node.body)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Unpacking needs no guard; `__slots__` of a class is checked by its strings."""
        if self.scope == "class" and _is_slots(node):
            if not _plain_slots(node.value):
                self.refuse(node, "__slots__ takes a literal tuple or list of ordinary names")
            return node
        return self.node_contents_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Annotations are never evaluated; a class keeps the names: they may be fields."""
        if self.scope == "class" and node.simple and not _of_the_class(node.annotation):
            node.annotation = ast.copy_location(ast.Constant(None), node)
            return self.node_contents_visit(node)
        if node.value is None:
            self.visit(node.target)
            return ast.copy_location(ast.Pass(), node)
        plain = ast.Assign([node.target], node.value)
        return self.visit_Assign(ast.copy_location(plain, node))

    def _visit_all(self, nodes: list[Any]) -> None:
        nodes[:] = [self.visit(each) for each in nodes]

    # --- imports --------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> ast.AST:
        """Modules that there is a facade for."""
        for each in node.names:
            self.refuse(node, import_refused(each.name), "import")
            self.check_name(node, each.asname or each.name.partition(".")[0])
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Names that the facade has; `__future__` is dropped, as its features are in force."""
        if node.module == "__future__":
            for each in node.names:
                known = each.name in __future__.all_feature_names
                self.refuse(node, None if known else f"no future feature {each.name!r}", "syntax")
            return ast.copy_location(ast.Pass(), node)
        module = "." * node.level + (node.module or "")
        if refusal := import_refused(module):
            self.refuse(node, refusal, "import")
            return node
        for each in node.names:
            self.refuse(node, name_refused(module, each.name))
            self.check_name(node, each.asname or each.name)
        return node


def call_hook(hook: str, value: ast.expr, *name: ast.expr) -> ast.Call:
    """`hook(value, *name)`, at the place of the value."""
    function = ast.Name(hook, ast.Load())
    for new in (function, *name):
        ast.copy_location(new, value)
    return ast.copy_location(ast.Call(function, [value, *name], []), value)


def _of_the_class(annotation: ast.expr) -> bool:
    """Whether an annotation says `ClassVar`: such a name is no field."""
    return "ClassVar" in (
        getattr(each, "id", getattr(each, "attr", "")) for each in ast.walk(annotation)
    )


def _takes_self(arguments: ast.arguments) -> bool:
    return any(each.arg == "self" for each in (arguments.posonlyargs + arguments.args)[:1])


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
