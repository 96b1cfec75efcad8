"""Read an answer into every shape it may have.

One text can have several readings: ``(1, 2)`` is a pair and an open interval, ``(B) 12`` a choice
and a value. `read` gives all of them; `taskgym.envs.answer_match` compares two lists of readings.
"""

from __future__ import annotations

import contextlib
import re
from fractions import Fraction

from taskgym.envs import answer_calendar as calendar
from taskgym.envs.answer_expressions import NotMathsError, Tree, in_base, literal, parse, repeating
from taskgym.envs.answer_numbers import names
from taskgym.envs.answer_shapes import (
    INFINITY,
    LINE,
    MINUS_INFINITY,
    Assigned,
    Choice,
    Equation,
    Matrix,
    Piece,
    Region,
    Scalar,
    Several,
    Shape,
    Words,
)
from taskgym.envs.answer_units import Unit, number_words, split_unit

_EMPTY = Several("set", ())

_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s+)?(?:\(([A-Ja-j])\)|([A-J])(?=\s*[.):]|$)|([a-j])(?=\s*[.):]\s|$))"
    r"\s*[.):]*\s*(.*)",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"\\emptyset|\\\{\s*\\\}|\{\}|(?:the )?empty set|no (?:real )?solutions?", re.I
)
_MATRIX = re.compile(r"\\begin\{([bpvBV]?matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_GROUPED = re.compile(r"([+-]?)(\d{1,3}(?:([, '_])\d{3})(?:\3\d{3})*)(\.\d+)?")
_REPEATING = re.compile(
    r"([+-]?)(\d*\.\d*?)(?:\((\d+)\)|(\d)\4+\s*\.\.\.|(\d{2,}?)\5+\d{0,2}\s*\.\.\.)"
)
_BASED = re.compile(
    r"\(?([0-9A-Za-z]+)\)?\s*(?:_\s*\{?\s*(\w+)\s*\}?|\(?\s*(?:in )?base[ -](\w+)\s*\)?)"
)
_BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7"}
_BASES |= {"eight": "8", "nine": "9", "ten": "10", "twelve": "12", "sixteen": "16"}
_PREFIXED = re.compile(r"0[xX][0-9A-Fa-f]+$|0[bB][01]+$")
_PERCENT = re.compile(r"\s*(?:%|per ?cent|pct)\.?$", re.IGNORECASE)
_RELATION = re.compile(r"(<=|>=|!=|<|>)")
_NAMED = re.compile(
    r"([A-Za-z]|\\[A-Za-z]+)(?:_\{?\w+\}?)?'?(?:\s*\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])*\s*\))?"
)
_LABEL = re.compile(r"(?:the )?[A-Za-z][A-Za-z ]{2,40}")
_MEMBER = re.compile(r"([A-Za-z]|\\[A-Za-z]+)\s*\\in(?![a-z])\s*(.*)")
_CONDITION = re.compile(r"\s*([A-Za-z])\s*(?:\\in\s*\\reals\s*)?(?:\||:|\\mid|\\colon)\s*(.*)")
_JOIN = re.compile(r"\s+(?:or|and)\s+|\s*[,;]\s*(?:or|and)\s+")
_PAIRS = {"(": ")", "[": "]", "\\{": "\\}", "{": "}", "\\langle": "\\rangle"}
_QUOTES = re.compile(r"['\"]|^\((?=[^()]*\)$)|\)$")
_IDLE_BLANK = re.compile(r"(?<!\w) | (?!\w)")
_LETTERS = re.compile(r"\s*[^\W\d_]+(?:[\s,-]+[^\W\d_]+)*\s*")
_BRACKET = re.compile(r"\\[{}]|\\[lr]angle|[(){}\[\]]")
_DEPTH = 6
_FIGURES = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
LONGEST = 600  # characters of an answer worth reading; some patterns are quadratic


def read(text: str) -> tuple[Shape, ...]:
    """Return every reading of a cleaned ``text``, the likeliest first; words are always one."""
    readings: list[Shape] = []
    if len(text) > LONGEST:
        long = [Scalar(("n", literal(text)))] if _FIGURES.fullmatch(text) else []
        return (*long, Words(text))
    with contextlib.suppress(NotMathsError):  # most texts are none of the special shapes
        readings.extend(_special(text))
    with contextlib.suppress(NotMathsError):  # then only its words can speak for it
        readings.extend(_shapes(text, 0))
    return (*readings, Words(_words(text)))


def _words(text: str) -> str:
    """Text compares up to case; letters of a formula do not, nor do brackets fall out of one."""
    plain = _QUOTES.sub("", text)
    if not _LETTERS.fullmatch(plain):
        return _IDLE_BLANK.sub("", text)
    words = plain.casefold().replace("-", " ").split()
    if words[0] in ("the", "a", "an") and len(words) > 1:
        words = words[1:]
    folded = " ".join(words)
    return folded if len(folded) > 2 or folded == "no" else plain.strip()


def _special(text: str) -> list[Shape]:
    found: list[Shape | None] = [calendar.date(text), calendar.time(text), calendar.ratio(text)]
    if based := _BASED.fullmatch(text):
        base = based[2] or based[3]
        found.append(Scalar(("n", in_base(based[1], _BASES.get(base.lower(), base)))))
    if (choice := _CHOICE.fullmatch(text)) and (letter := choice[1] or choice[2] or choice[3]):
        found.append(Choice(letter.upper(), bool(choice[1] or choice[4]) or text != letter))
        if len(choice[4]) > 1:
            found.append(Words(_words(choice[4])))
            with contextlib.suppress(NotMathsError):
                found.extend(_shapes(choice[4], 1))
    if _PREFIXED.match(text):
        text = ("0" + text[1:]).lower()
        found.append(Scalar(("n", in_base(text[2:], "16" if text[1] == "x" else "2"))))
    if (value := number_words(text)) is not None:
        found.append(Scalar(("n", value)))
    elif text.replace(" ", "").isalpha() and (counted := number_words(text.rpartition(" ")[0])):
        found.append(Scalar(("n", counted), split_unit("1 " + text.rpartition(" ")[2])[1]))
    return [shape for shape in found if shape is not None]


def _shapes(text: str, depth: int) -> list[Shape]:
    """Readings of mathematical text; the first rule that fits decides."""
    text = text.strip()
    if not text or depth > _DEPTH:
        raise NotMathsError(text[:20])
    if "\\approx" in text[1:]:
        text = text.partition("\\approx")[0].rstrip()  # what is exact counts, not its rounding
    if _NOTHING.fullmatch(text):
        return [_EMPTY]
    if text == "\\reals" or text.lower() in ("all real numbers", "all reals"):
        return [LINE]
    for rule in (
        _grouped,
        _matrix,
        _member,
        _united,
        _bracketed,
        _joined,
        _related,
        _equated,
        _listed,
    ):
        if shapes := rule(text, depth):
            return shapes
    return list(_scalar(text))


def _one(text: str, depth: int) -> Shape:
    return _shapes(text, depth + 1)[0]


def _grouped(text: str, depth: int) -> list[Shape]:
    # the pattern is cubic in the digits, so it sees short text only
    repeated = _REPEATING.fullmatch(text) if len(text) < 80 and text[-1] in ".)" else None
    if repeated is not None:
        block = repeated[3] or repeated[4] or repeated[5]
        value = repeating(repeated[2], block)
        return [Scalar(("n", -value if repeated[1] == "-" else value))]
    body, unit, percent = _measured(text)
    found = _GROUPED.fullmatch(body)
    if found is None:
        return []
    number = Fraction(re.sub("[, '_]", "", found[2]) + (found[4] or ""))
    scalar = Scalar(("n", -number if found[1] == "-" else number), unit, percent)
    if found[3] == "," and body == text and not found[4]:  # 1,234 may be a list of two
        return [scalar, Several("bare", tuple(_one(item, depth) for item in body.split(",")))]
    return [scalar]


def _matrix(text: str, depth: int) -> list[Shape]:
    found = _MATRIX.fullmatch(text)
    if found is None or found[1] in ("vmatrix", "Vmatrix"):
        return []
    rows = [row for row in re.split(r"\\\\", found[2]) if row.strip()]
    return [Matrix(tuple(tuple(_one(cell, depth) for cell in row.split("&")) for row in rows))]


def _member(text: str, depth: int) -> list[Shape]:
    found = _MEMBER.fullmatch(text)
    return _shapes(found[2], depth + 1) if found else []


def _united(text: str, depth: int) -> list[Shape]:
    if "\\setminus" in text or "\\backslash" in text:
        whole, points = re.split(r"\\setminus|\\backslash", text, maxsplit=1)
        out = _one(points, depth)
        region = next((s for s in _shapes(whole, depth + 1) if isinstance(s, Region)), None)
        if region is None or not isinstance(out, Several):
            raise NotMathsError(text)
        trees = tuple(item.tree for item in out.items if isinstance(item, Scalar))
        return [Region(region.pieces, trees)]
    parts = re.split(r"\\cup(?![a-z])|\s+U\s+|\s+\bunion\b\s+", text)
    return [_union(parts, depth)] if len(parts) > 1 else []


def _union(parts: list[str], depth: int) -> Region | Several:
    shapes = [_shapes(part, depth + 1) for part in parts]
    regions = [next((s for s in shape if isinstance(s, Region)), None) for shape in shapes]
    found = [region for region in regions if region is not None]
    if len(found) == len(parts):
        return Region(tuple(piece for part in found for piece in part.pieces))
    points = [shape[0] for shape in shapes]
    sets = [point for point in points if isinstance(point, Several) and point.kind == "set"]
    if len(sets) == len(parts):
        return Several("set", tuple(item for single in sets for item in single.items))
    pieces: list[Piece] = []
    for region, point in zip(regions, points, strict=True):
        if region is not None:
            pieces += region.pieces
        elif isinstance(point, Several) and point.kind == "set":
            pieces += [_point(item) for item in point.items]
        else:
            raise NotMathsError("a union of something else")
    return Region(tuple(pieces))


def _point(item: Shape) -> Piece:
    if not isinstance(item, Scalar):
        raise NotMathsError("a point that is no number")
    return Piece(item.tree, item.tree, True, True)


def _bracketed(text: str, depth: int) -> list[Shape]:
    opened = _BRACKET.match(text)
    closed = (
        text[-7:] if text.endswith("\\rangle") else text[-2:] if text[-2:] == "\\}" else text[-1]
    )
    if opened is None or len(text) < 2 or _closing(text) != len(text) - len(closed):
        return _reversed_brackets(text, depth)
    left, inner = opened[0], text[opened.end() : len(text) - len(closed)]
    if left in ("\\{", "{") and (condition := _CONDITION.fullmatch(inner)):
        return _shapes(condition[2], depth + 1)
    items = split(inner, ",;")
    if left in ("\\{", "{"):
        if left == "{" and len(items) == 1:
            return _shapes(inner, depth + 1)
        return [Several("set", tuple(_one(item, depth) for item in items))]
    if len(items) == 1:
        return _shapes(inner, depth + 1) if closed == _PAIRS[left] else []
    shapes = tuple(_one(item, depth) for item in items)
    kind = "tuple" if left == "(" else "square" if left == "[" and len(items) == 2 else "vector"
    readings: list[Shape] = [Several(kind, shapes)] if closed == _PAIRS[left] else []
    if len(shapes) == 2 and left in "([" and all(isinstance(s, Scalar) for s in shapes):
        low, high = (s.tree for s in shapes if isinstance(s, Scalar))
        readings.append(Region((Piece(low, high, left == "[", closed == "]"),)))
    return readings


def _reversed_brackets(text: str, depth: int) -> list[Shape]:
    """Intervals as the French write them: ]0, 1[ is open."""
    if len(text) < 5 or text[0] not in "][" or text[-1] not in "][" or "," not in text:
        return []
    items = split(text[1:-1], ",;")
    if len(items) != 2:
        return []
    low, high = (_scalar(item)[0] for item in items)
    return [Region((Piece(low.tree, high.tree, text[0] == "[", text[-1] == "]"),))]


def _closing(text: str) -> int:
    """Return where the bracket that opens ``text`` closes, whatever kind closes it; -1 if never."""
    depth = 0
    for found in _BRACKET.finditer(text):
        depth += 1 if found[0] in ("(", "[", "{", "\\{", "\\langle") else -1
        if depth == 0:
            return found.start()
    return -1


def split(text: str, separators: str) -> list[str]:
    """Split ``text`` at the separators that stand outside every bracket."""
    if not any(separator in text for separator in separators):
        return [text]
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        character = text[position]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character in separators and depth <= 0:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return [*parts, text[start:]]


def _joined(text: str, depth: int) -> list[Shape]:
    parts = _JOIN.split(text)
    if len(parts) == 1 or (number_words(text) is not None):
        return []
    if mixed := re.fullmatch(r"(-?)(\d+) and (\d+/\d+)", text):
        return list(_scalar(f"{mixed[1]}{mixed[2]} {mixed[3]}"))
    if _RELATION.search(text) and "=" not in re.sub("[<>!]=", "", text):
        if " and " in text:
            return [_intersection([_one(part, depth) for part in parts])]
        return [_union(parts, depth)]
    items = [item for part in parts for item in split(part, ",") if item.strip()]
    return [_bare(items, depth)]


def _intersection(shapes: list[Shape]) -> Region:
    """Of rays only: x > 1 and x < 3."""
    low, high = MINUS_INFINITY, INFINITY
    low_closed = high_closed = False
    for shape in shapes:
        if not isinstance(shape, Region) or len(shape.pieces) != 1 or shape.without:
            raise NotMathsError("an intersection of something else")
        piece = shape.pieces[0]
        if piece.low != MINUS_INFINITY and low == MINUS_INFINITY:
            low, low_closed = piece.low, piece.low_closed
        elif piece.high != INFINITY and high == INFINITY:
            high, high_closed = piece.high, piece.high_closed
        else:
            raise NotMathsError("an intersection of something else")
    return Region((Piece(low, high, low_closed, high_closed),))


def _bare(items: list[str], depth: int) -> Shape:
    shapes = [_one(item, depth) for item in items]
    if all(isinstance(shape, Assigned) for shape in shapes[:1]):
        name = shapes[0].name if isinstance(shapes[0], Assigned) else ""
        others = [s for s in shapes if not (isinstance(s, Assigned) and s.name == name)]
        if all(isinstance(s, Scalar) for s in others):  # x = 1 or x = 2, and x = 1, 2
            shapes = [s.value if isinstance(s, Assigned) else s for s in shapes]
    return Several("bare", tuple(shapes))


def _related(text: str, depth: int) -> list[Shape]:
    parts = [part.strip() for part in _RELATION.split(text)]
    if len(parts) == 3:
        return [_ray(*parts)]
    if len(parts) != 5 or parts[1][0] != parts[3][0] or not _NAMED.fullmatch(parts[2]):
        if len(parts) > 1:
            raise NotMathsError(text)
        return []
    if parts[1][0] == ">":
        parts.reverse()
    low, high = _scalar(parts[0])[0], _scalar(parts[4])[0]
    return [
        Region(
            (Piece(low.tree, high.tree, parts[1] in ("<=", ">="), parts[3] in ("<=", ">=")),),
            (),
            parts[2],
        )
    ]


def _ray(left: str, relation: str, right: str) -> Region:
    if not _NAMED.fullmatch(left):
        left, right = right, left
        relation = relation.translate(str.maketrans("<>", "><"))
    if not _NAMED.fullmatch(left):
        raise NotMathsError("an inequality that is not solved")
    bound, closed = _scalar(right)[0].tree, relation.endswith("=")
    if relation == "!=":
        return Region(LINE.pieces, (bound,), left)
    if relation[0] == ">":
        return Region((Piece(bound, INFINITY, closed, False),), (), left)
    return Region((Piece(MINUS_INFINITY, bound, False, closed),), (), left)


def _equated(text: str, depth: int) -> list[Shape]:
    if "=" not in text:
        return []
    items = split(text, ",;")
    if len(items) > 1:
        return [_bare(items, depth)]
    sides = [side.strip() for side in text.split("=")]
    if len(sides) == 2 and _NAMED.fullmatch(sides[1]) and not _NAMED.fullmatch(sides[0]):
        sides.reverse()
    if _NAMED.fullmatch(sides[0]) or (_LABEL.fullmatch(sides[0]) and len(sides) == 2):
        name = sides[0].replace(" ", "")
        return [Assigned(name, shape, _equation(sides)) for shape in _shapes(sides[-1], depth + 1)]
    if len(sides) == 2 and (equation := _equation(sides)) and not _constant(equation.left):
        return [equation]
    return _shapes(sides[-1], depth + 1)  # 3 + 4 = 7 states 7


def _constant(tree: Tree) -> bool:
    return not names(tree)


def _equation(sides: list[str]) -> Equation | None:
    try:
        return Equation(parse(sides[0]), parse(sides[1])) if len(sides) == 2 else None
    except NotMathsError:
        return None


def _listed(text: str, depth: int) -> list[Shape]:
    items = split(text, ",;")
    return [_bare(items, depth)] if len(items) > 1 else []


def _measured(text: str) -> tuple[str, Unit | None, bool]:
    percent = _PERCENT.search(text)
    if percent:
        return text[: percent.start()], None, True
    return (*split_unit(text), False)


def _scalar(text: str) -> tuple[Scalar, ...]:
    body, unit, percent = _measured(text)
    try:
        return (Scalar(parse(body), unit, percent),)
    except NotMathsError:
        if unit is None:
            raise
    return (Scalar(parse(text)),)  # what looked like a unit was a product of letters


_RULES = (
    _grouped, _matrix, _member, _united, _bracketed, _joined, _related, _equated, _listed
)  # fmt: skip
