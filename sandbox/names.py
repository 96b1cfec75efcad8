"""Which names and attributes a program may use: the rules of the compiler and of the guards."""

from __future__ import annotations

from typing import Literal

from RestrictedPython.transformer import INSPECT_ATTRIBUTES

PROGRAM = "program"  # __name__ in a program, and so __module__ of its classes


def words(text: str) -> list[str]:
    """The words of a text; long lists of names are easier to read without quotes."""
    return text.split()


_BINARY = words("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift")

# Methods a class may define, alias in its body, and call on super(). None of them is asked for an
# attribute, builds or replaces a class, takes part in pickling, or runs when an object dies.
METHODS = frozenset(
    f"__{name}__"
    for name in (
        *words("init repr str bytes format hash bool len length_hint contains call"),
        *words("getitem setitem delitem missing iter next reversed"),
        *words("lt le eq ne gt ge"),
        *_BINARY,
        *(f"r{name}" for name in _BINARY),
        *(f"i{name}" for name in _BINARY),
        *words("divmod rdivmod neg pos abs invert"),
        *words("int float complex index round trunc floor ceil"),
        *words("enter exit copy deepcopy post_init"),
    )
)

# What a named tuple calls its public methods.
NAMED_TUPLE = frozenset({"_asdict", "_field_defaults", "_fields", "_make", "_replace"})

# These two walk attributes by a string, so they are only handed out in a form that does not.
FORMATTERS = frozenset({"format", "format_map"})

# Of an abstract class, `register` changes what isinstance() says to everyone.
HOOKED = FORMATTERS | {"register"}

# `super` must mean what it says: the transformer lets it read methods by their dunder names.
RESERVED = frozenset({"breakpoint", "builtins", "super"})

# What to use instead of a name that is refused.
INSTEAD = {
    "__class__": "use type(x)",
    "__base__": "name the class",
    "__builtins__": "call builtins by their names",
    "__dict__": "name the attributes, or keep them in a dict",
    "__new__": "define __init__",
    "__main__": "programs are not run as scripts",
    "__getattr__": "define ordinary methods, or __getitem__",
    "__setattr__": "define ordinary methods, or __setitem__",
    "__del__": "define __enter__ and __exit__",
}


_INNER = ("_abc_", "_dump_")  # of abstract classes


def private(name: str) -> bool:
    """Whether this is a program's own private name: `_x` or `__x`, but no hook and no dunder."""
    return name.startswith("_") and not name.endswith("_") and not name.startswith("_tmp")


def variable_refused(name: str) -> str | None:
    """Why a variable, argument, function or class may not have this name; None if it may."""
    if not name.startswith("_") or set(name) == {"_"}:
        reserved = name.endswith("__roles__") or name in RESERVED
        return f"the name {name!r} is reserved" if reserved else None
    if private(name) and name != "_print":
        return None
    return f"the name {name!r} is not allowed; {_advice(name, 'choose another name')}"


def attribute_refused(name: str) -> str | None:
    """Why an attribute of this name may not be read or set; None if it may."""
    if name in INSPECT_ATTRIBUTES or name.startswith(_INNER) or name == "buffer_info":
        return f"the attribute {name!r} is not allowed: it leads into the interpreter"
    if name.startswith("_") and name not in NAMED_TUPLE and name != "_" and not private(name):
        return f"the attribute {name!r} is not allowed; {_advice(name, 'use public ones')}"
    return f"the name {name!r} is reserved" if name.endswith("__roles__") else None


def kind_of(name: str) -> Literal["escape", "construct"]:
    """What using a refused name amounts to: dunders and their like lead into the interpreter."""
    dunder = name.startswith("__") and name.endswith("__") and name not in METHODS
    inspects = name in INSPECT_ATTRIBUTES or name.startswith(_INNER)
    return "escape" if dunder or inspects else "construct"


def _advice(name: str, otherwise: str) -> str:
    return INSTEAD.get(name, otherwise)
