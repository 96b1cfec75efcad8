r"""Cut an expression in LaTeX or plain text into tokens, and walk over them.

A token is a number, one letter, a sign, or a name with a backslash, which plain text need not
write: ``2sin x`` is ``2``, ``\sin``, ``x``.
"""

from __future__ import annotations

import re

from taskgym.envs.answer_trees import NotMathsError

FUNCTIONS = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "asin": "asin", "acos": "acos",
    "atan": "atan", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "sin": "sin", "cos": "cos",
    "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "ln": "log", "log": "log", "lg": "lg",
    "cis": "cis", "exp": "exp", "sqrt": "sqrt", "abs": "abs", "cbrt": "cbrt",
}  # fmt: skip
_LETTERS = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi "
    "Omega ell hbar"
)
GREEK = frozenset(_LETTERS.split())
_WORDS = sorted([*FUNCTIONS, "pi", "infty", "infinity", "inf", "theta"], key=len, reverse=True)
_COMMANDS = sorted(
    [*FUNCTIONS, "pi", "infty", *GREEK, "frac", "pm", "mp", "overline", "bar", "dot", "lfloor",
     "rfloor", "lceil", "rceil", "lvert", "rvert", "binom", "prime"],
    key=len, reverse=True,
)  # fmt: skip
_TOKEN = re.compile(
    r"(?P<blank>\s+)"
    r"|(?P<n>\d+(?:\.(?!\.)\d*)?(?:[eE][+-]?\d+(?![\dA-Za-z]))?|\.\d+(?:[eE][+-]?\d+(?![\dA-Za-z]))?)"
    r"|(?P<cmd>\\[A-Za-z]+)|(?P<word>[A-Za-z]+)|(?P<op>\*\*|[-+*/^_(){}\[\]|!'])"
)
_DEPTH = 40


def tokens(text: str) -> list[str]:
    """Return the tokens of ``text``, with a blank only where it stands between two numbers.

    Raises:
        NotMathsError: ``text`` holds a sign, a command or a word that no expression has.
    """
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotMathsError(text[position : position + 20])
        found += _named(match)
        position = match.end()
    return [token for i, token in enumerate(found) if token != " " or _between_numbers(found, i)]


def _named(match: re.Match[str]) -> list[str]:
    kind, token = match.lastgroup, match[0]
    if kind == "cmd":
        return _command(token[1:])
    if kind == "word":
        return ["\\deg"] if token == "deg" else _word(token)
    if kind == "blank":
        return [" "]
    return ["^" if token == "**" else token]


def _between_numbers(found: list[str], i: int) -> bool:
    """A blank matters only in ``2 1/3`` (a mixed number), and makes nonsense of ``3 4``."""
    return (
        0 < i < len(found) - 1
        and found[i - 1][-1].isdigit()
        and (found[i + 1][0].isdigit() or found[i + 1][0] == ".")
    )


def _command(name: str) -> list[str]:
    for known in _COMMANDS:
        if name.startswith(known):
            rest = name[len(known) :]
            return ["\\" + known, *(_word(rest) if rest else [])]
    raise NotMathsError("\\" + name)


def _word(word: str) -> list[str]:
    """Split letters that stand together into function names and one-letter variables."""
    found, letters, position = [], 0, 0
    while position < len(word):
        known = next((name for name in _WORDS if word.startswith(name, position)), None)
        letters += known is None
        found.append("\\" + known if known else word[position])
        position += len(known or "x")
    if letters > 3:
        raise NotMathsError(word)
    return found


class Tokens:
    """The tokens of one text and how far they are read; ``depth`` bounds a parser's recursion."""

    def __init__(self, text: str) -> None:
        self.tokens = tokens(text)
        self.at = 0
        self.depth = 0

    def peek(self) -> str:
        """Return the next token, or nothing at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, token: str = "") -> str:
        """Step over the next token, which has to be ``token`` where one is given."""
        found = self.peek()
        if not found or (token and found != token):
            raise NotMathsError(f"{token or 'more'} expected, {found or 'end'} found")
        self.at += 1
        return found

    def skip(self, token: str) -> bool:
        """Step over ``token`` if it is the next one, and tell whether it was."""
        if self.peek() == token:
            self.at += 1
            return True
        return False

    def deeper(self) -> None:
        """Go one level down, within bounds."""
        self.depth += 1
        if self.depth > _DEPTH:
            raise NotMathsError("nested too deep")
