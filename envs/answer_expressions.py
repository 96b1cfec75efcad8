"""Parse an expression in LaTeX or plain text into a tree (`taskgym.envs.answer_trees`)."""

from __future__ import annotations

import re
from fractions import Fraction

from taskgym.envs import answer_numerals as numerals
from taskgym.envs import answer_trees as trees
from taskgym.envs.answer_tokens import FUNCTIONS, GREEK, Tokens
from taskgym.envs.answer_trees import NotMathsError, Tree

_CONSTANTS = {"pi": "pi", "e": "e", "i": "i", "infty": "inf", "infinity": "inf", "inf": "inf"}
_OPENERS = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_PROPER = re.compile(r"([1-9])([1-9])(?!\d)|\{(\d+)\}\{(\d+)\}")


def parse(text: str) -> Tree:
    """Return the tree of ``text``.

    Raises:
        NotMathsError: ``text`` holds anything beside one scalar expression.
    """
    return _Parser(text).whole()


class _Parser(Tokens):
    """Recursive descent: a sum has products, a product powers, a power atoms."""

    def whole(self) -> Tree:
        tree = self.sum()
        if self.peek():
            raise NotMathsError(f"{self.peek()} left over")
        return tree

    def sum(self) -> Tree:
        terms = [] if self.peek() in ("\\pm", "\\mp") else [self.product()]
        while (sign := self.peek()) in ("+", "-", "\\pm", "\\mp"):
            self.at += 1
            term = self.product()
            if sign == "-":
                term = trees.negative(term)
            elif sign != "+":
                term = ("pm", 1 if sign == "\\pm" else -1, term)
            terms.append(term)
        return terms[0] if len(terms) == 1 else ("+", tuple(terms))

    def product(self) -> Tree:
        sign = 1
        while self.peek() in ("+", "-"):
            sign *= -1 if self.take() == "-" else 1
        factors = [self.power()] if sign > 0 else [trees.MINUS_ONE, self.power()]
        while True:
            if self.skip("*"):
                factors.append(self.signed_power())
            elif self.skip("/"):
                self.deeper()  # for good: a/b/c is a tree as deep as it is long
                factors = [("/", trees.product(factors), self.signed_power())]
            elif self.starts_factor():
                factors.append(self.power())
            else:
                return trees.product(factors)

    def signed_power(self) -> Tree:
        if self.skip("-"):
            return trees.negative(self.power())
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
        base = self.postfix(("n", numerals.literal(self.take())) if plain else self.atom())
        if not self.skip("^"):
            return base
        self.deeper()
        minus = self.skip("-")
        power = self.power(exponent=True)
        self.depth -= 1
        if minus:
            power = trees.negative(power)
        return self.postfix(("^", base, power))

    def postfix(self, tree: Tree) -> Tree:
        while self.skip("!"):
            self.deeper()
            tree = ("f", "factorial", tree)
        if self.skip("\\deg"):
            tree = ("*", (tree, ("k", "pi"), trees.number(Fraction(1, 180))))
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
            value = numerals.in_base(token, self.subscript()[1:])
            if self.peek()[:1].isdigit():
                raise NotMathsError("a digit behind a base")
            return ("n", value)
        value = numerals.literal(token)
        whole = token.isdigit()
        if whole and self.skip(" "):  # 2 1/3
            top = self.take()
            self.take("/")
            return ("n", value + numerals.proper(top, self.take()))
        if whole and self.peek() == "\\frac" and self.mixed_ahead():
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
        return numerals.proper(str(top[1]), str(bottom[1]))

    def repeating(self, head: str) -> Tree:
        self.at += 1
        block = self.take()
        if block == "{":
            block = self.take()
            self.take("}")
        return ("n", numerals.repeating(head, block))

    def command(self, name: str) -> Tree:
        if name == "frac":
            return ("/", self.argument(), self.argument())
        if name == "binom":
            return ("f", "binom", ("pair", self.argument(), self.argument()))
        if name == "sqrt" and self.skip("["):
            degree = self.sum()
            self.take("]")
            return ("^", self.argument(), ("/", trees.number(1), degree))
        if name in FUNCTIONS:
            return self.function(FUNCTIONS[name])
        if name in _CONSTANTS:
            return ("k", _CONSTANTS[name])
        if name in GREEK:
            return ("v", name + self.subscript())
        raise NotMathsError("\\" + name)

    def argument(self) -> Tree:
        """One LaTeX argument: braces, or a single digit, letter or command."""
        self.skip(" ")
        token = self.peek()
        if not token.isdigit():
            return self.atom()
        if len(token) > 1:
            self.tokens[self.at] = token[1:]
        else:
            self.at += 1
        return trees.number(int(token[0]))

    def function(self, name: str) -> Tree:
        base = self.log_base() if name == "log" else None
        exponent = None
        if self.skip("^"):
            exponent = self.signed_power() if self.peek() == "-" else self.atom()
        inverse = exponent == trees.negative(trees.number(1))
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
        while self.starts_factor() and self.peek()[1:] not in FUNCTIONS:
            factors.append(self.power())
        return trees.product(factors)
