"""Parse an expression in LaTeX or plain text into a small tree.

A tree is a tuple whose head names it::

    ("n", Fraction)   ("v", name)   ("k", "pi" | "e" | "i" | "inf")
    ("+", terms)   ("*", factors)   ("/", a, b)   ("^", a, b)   ("f", name, a)   ("pm", sign, a)
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, TypeAlias

Tree: TypeAlias = tuple[Any, ...]


class NotMathsError(ValueError):
    """The text is not an expression that this grammar knows."""


_NAMES = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "asin": "asin", "acos": "acos",
    "atan": "atan", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "sin": "sin", "cos": "cos",
    "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "ln": "log", "log": "log", "lg": "lg",
    "exp": "exp", "sqrt": "sqrt", "abs": "abs", "cbrt": "cbrt",
}  # fmt: skip
_CONSTANTS = {"pi": "pi", "e": "e", "i": "i", "infty": "inf", "infinity": "inf", "inf": "inf"}
_LETTERS = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi "
    "Omega ell hbar"
)
_GREEK = frozenset(_LETTERS.split())
_WORDS = sorted([*_NAMES, "pi", "infty", "infinity", "inf", "theta"], key=len, reverse=True)
_COMMANDS = sorted(
    [*_NAMES, "pi", "infty", *_GREEK, "frac", "pm", "mp", "overline", "bar", "dot", "lfloor",
     "rfloor", "lceil", "rceil", "lvert", "rvert", "binom", "prime"],
    key=len, reverse=True,
)  # fmt: skip
_TOKEN = re.compile(
    r"(?P<blank>\s+)"
    r"|(?P<n>\d+(?:\.(?!\.)\d*)?(?:[eE][+-]?\d+(?![\dA-Za-z]))?|\.\d+(?:[eE][+-]?\d+(?![\dA-Za-z]))?)"
    r"|(?P<cmd>\\[A-Za-z]+)|(?P<word>[A-Za-z]+)|(?P<op>\*\*|[-+*/^_(){}\[\]|!'])"
)
_OPENERS = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_PROPER = re.compile(r"([1-9])([1-9])(?!\d)|\{(\d+)\}\{(\d+)\}")
_DEPTH = 40
_EXPONENT = 5000


def parse(text: str) -> Tree:
    """Return the tree of ``text``.

    Raises:
        NotMathsError: ``text`` holds anything beside one scalar expression.
    """
    return _Parser(_tokens(text)).whole()


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise NotMathsError(text[position : position + 20])
        kind, token = found.lastgroup, found[0]
        if kind == "cmd":
            tokens += _command(token[1:])
        elif kind == "word":
            tokens += _word(token)
        elif kind == "blank":
            tokens.append(" ")
        else:
            tokens.append("^" if token == "**" else token)
        position = found.end()
    return [token for i, token in enumerate(tokens) if token != " " or _between_numbers(tokens, i)]


def _between_numbers(tokens: list[str], i: int) -> bool:
    """A blank matters only in ``2 1/3`` (a mixed number), and makes nonsense of ``3 4``."""
    return (
        0 < i < len(tokens) - 1
        and tokens[i - 1][-1].isdigit()
        and (tokens[i + 1][0].isdigit() or tokens[i + 1][0] == ".")
    )


def _command(name: str) -> list[str]:
    for known in _COMMANDS:
        if name.startswith(known):
            rest = name[len(known) :]
            return ["\\" + known, *(_word(rest) if rest else [])]
    raise NotMathsError("\\" + name)


def _word(word: str) -> list[str]:
    """Split letters that stand together into function names and one-letter variables."""
    tokens, letters, position = [], 0, 0
    while position < len(word):
        known = next((name for name in _WORDS if word.startswith(name, position)), None)
        letters += known is None
        tokens.append("\\" + known if known else word[position])
        position += len(known or "x")
    if letters > 3:
        raise NotMathsError(word)
    return tokens


class _Parser:
    """Recursive descent over the tokens of one expression; ``depth`` bounds the recursion."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, token: str = "") -> str:
        found = self.peek()
        if not found or (token and found != token):
            raise NotMathsError(f"{token or 'more'} expected, {found or 'end'} found")
        self.at += 1
        return found

    def skip(self, token: str) -> bool:
        if self.peek() == token:
            self.at += 1
            return True
        return False

    def whole(self) -> Tree:
        tree = self.sum()
        if self.peek():
            raise NotMathsError(f"{self.peek()} left over")
        return tree

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise NotMathsError("nested too deep")

    def sum(self) -> Tree:
        terms = [] if self.peek() in ("\\pm", "\\mp") else [self.product()]
        while (sign := self.peek()) in ("+", "-", "\\pm", "\\mp"):
            self.at += 1
            term = self.product()
            if sign == "-":
                term = ("*", (("n", Fraction(-1)), term))
            elif sign != "+":
                term = ("pm", 1 if sign == "\\pm" else -1, term)
            terms.append(term)
        return terms[0] if len(terms) == 1 else ("+", tuple(terms))

    def product(self) -> Tree:
        sign = 1
        while self.peek() in ("+", "-"):
            sign *= -1 if self.take() == "-" else 1
        factors = [self.power()] if sign > 0 else [("n", Fraction(-1)), self.power()]
        while True:
            if self.skip("*"):
                factors.append(self.signed_power())
            elif self.skip("/"):
                self.deeper()  # for good: a/b/c is a tree as deep as it is long
                factors = [("/", _times(factors), self.signed_power())]
            elif self.starts_factor():
                factors.append(self.power())
            else:
                return _times(factors)

    def signed_power(self) -> Tree:
        if self.skip("-"):
            return ("*", (("n", Fraction(-1)), self.power()))
        self.skip("+")
        return self.power()

    def starts_factor(self) -> bool:
        token = self.peek()
        if not token or token in ("\\rfloor", "\\rceil", "\\pm", "\\mp", "\\rvert", "\\prime"):
            return False
        if token[0].isdigit():  # (n-1)2^n is a product, x2 a slip
            return self.tokens[self.at - 1] in (")", "}")
        return token[0] == "\\" or token in _OPENERS or token.isalpha()

    def power(self, exponent: bool = False) -> Tree:
        # x^2\frac{1}{3} is a product, so an exponent's number is never the head of a mixed one
        plain = exponent and self.peek().isdigit()
        base = self.postfix(("n", literal(self.take())) if plain else self.atom())
        if not self.skip("^"):
            return base
        self.deeper()
        negative = self.skip("-")
        power = self.power(exponent=True)
        self.depth -= 1
        if negative:
            power = ("*", (("n", Fraction(-1)), power))
        return self.postfix(("^", base, power))

    def postfix(self, tree: Tree) -> Tree:
        while self.skip("!"):
            self.deeper()
            tree = ("f", "factorial", tree)
        return tree

    def atom(self) -> Tree:
        self.deeper()
        tree = self.operator(self.take())
        self.depth -= 1
        return tree

    def operator(self, token: str) -> Tree:
        if token[0].isdigit() or token[0] == ".":
            return self.number(token)
        if token in _OPENERS:
            tree = self.sum()
            self.take(_OPENERS[token])
            return ("f", token[1:], tree) if token[0] == "\\" else tree
        if token in ("|", "\\lvert"):
            tree = self.sum()
            self.take("|" if token == "|" else "\\rvert")
            return ("f", "abs", tree)
        if token[0] == "\\":
            return self.command(token[1:])
        if token.isalpha():
            return ("k", token) if token in ("e", "i") else ("v", token + self.subscript())
        raise NotMathsError(token)

    def subscript(self) -> str:
        name = ""
        if self.skip("_"):
            parts = [self.take()]
            if parts[0] == "{":
                while parts[-1] != "}":
                    parts.append(self.take())
            name = "_" + "".join(parts).strip("{}")
        while self.skip("'"):
            name += "'"
        return name

    def number(self, token: str) -> Tree:
        if self.peek() == "_":
            return ("n", in_base(token, self.subscript()[1:]))
        value = literal(token)
        whole = token.isdigit()
        if whole and self.skip(" "):  # 2 1/3
            top = self.take()
            self.take("/")
            return ("n", value + _proper(top, self.take()))
        if whole and self.tokens[self.at : self.at + 1] == ["\\frac"] and self.mixed_ahead():
            self.at += 1
            return ("n", value + self.proper_frac())
        if self.peek() in ("\\overline", "\\bar", "\\dot"):
            return self.repeating(token)
        return ("n", value)

    def mixed_ahead(self) -> bool:
        ahead = "".join(self.tokens[self.at + 1 : self.at + 7])
        found = _PROPER.match(ahead)
        return found is not None and int(found[1] or found[3]) < int(found[2] or found[4])

    def proper_frac(self) -> Fraction:
        top, bottom = self.argument(), self.argument()
        return _proper(str(top[1]), str(bottom[1]))

    def repeating(self, head: str) -> Tree:
        self.at += 1
        block = self.take()
        if block == "{":
            block = self.take()
            self.take("}")
        return ("n", repeating(head, block))

    def command(self, name: str) -> Tree:
        if name == "frac":
            return ("/", self.argument(), self.argument())
        if name == "binom":
            return ("f", "binom", ("pair", self.argument(), self.argument()))
        if name == "sqrt" and self.skip("["):
            degree = self.sum()
            self.take("]")
            return ("^", self.argument(), ("/", ("n", Fraction(1)), degree))
        if name in _NAMES:
            return self.function(_NAMES[name])
        if name in _CONSTANTS:
            return ("k", _CONSTANTS[name])
        if name in _GREEK:
            return ("v", name + self.subscript())
        raise NotMathsError("\\" + name)

    def argument(self) -> Tree:
        """One LaTeX argument: braces, or a single digit, letter or command."""
        self.skip(" ")
        token = self.peek()
        if token == "{":
            return self.atom()
        if not token.isdigit():
            return self.atom()
        if len(token) > 1:
            self.tokens[self.at] = token[1:]
        else:
            self.at += 1
        return ("n", Fraction(int(token[0])))

    def function(self, name: str) -> Tree:
        base = self.log_base() if name == "log" else None
        exponent = None
        if self.skip("^"):
            exponent = self.signed_power() if self.peek() == "-" else self.atom()
        inverse = exponent == ("*", (("n", Fraction(-1)), ("n", Fraction(1))))
        if inverse and name in ("sin", "cos", "tan"):
            name, exponent = "a" + name, None
        tree: Tree = ("f", name, self.operand(name))
        if base is not None:
            tree = ("/", tree, ("f", "log", base))
        return tree if exponent is None else ("^", tree, exponent)

    def log_base(self) -> Tree | None:
        if not self.skip("_"):
            return None
        base = self.argument()
        self.skip(" ")
        return base

    def operand(self, name: str) -> Tree:
        if self.peek() in ("(", "{", "[") or name == "sqrt":
            return self.atom()
        factors = [self.power()]
        while self.starts_factor() and self.peek()[1:] not in _NAMES:
            factors.append(self.power())
        return _times(factors)


def _times(factors: list[Tree]) -> Tree:
    return factors[0] if len(factors) == 1 else ("*", tuple(factors))


def _proper(top: str, bottom: str) -> Fraction:
    """The fraction of a mixed number; ``2 5/3`` is no usual notation for anything."""
    if not (top.isdigit() and bottom.isdigit() and 0 < int(top) < int(bottom)):
        raise NotMathsError(f"{top}/{bottom} in a mixed number")
    return Fraction(int(top), int(bottom))


def literal(token: str) -> Fraction:
    """Return the exact value of a decimal literal with at most a moderate exponent."""
    mantissa, _, exponent = token.lower().partition("e")
    if len(exponent) > 5 or abs(int(exponent or 0)) > _EXPONENT:
        raise NotMathsError(f"exponent of {token} is out of bounds")
    return Fraction(mantissa.rstrip(".") or "0") * Fraction(10) ** int(exponent or 0)


def repeating(head: str, block: str) -> Fraction:
    """Return 0.1666... from ``head`` "0.1" and the repeated ``block`` "6"."""
    if not block.isdigit() or "." not in head:
        raise NotMathsError(f"{head} repeating {block}")
    places = len(head.partition(".")[2])
    return literal(head) + Fraction(int(block), (10 ** len(block) - 1) * 10**places)


def in_base(digits: str, base: str) -> Fraction:
    """Return the value of ``digits`` written in ``base`` (2 to 36, in decimal)."""
    if not base.isdigit() or not 2 <= int(base) <= 36:
        raise NotMathsError(f"base {base}")
    try:
        return Fraction(int(digits, int(base)))
    except ValueError as error:
        raise NotMathsError(f"{digits} in base {base}") from error
