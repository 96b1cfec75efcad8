"""Cut a model's text down to the one answer it states, written in plain ASCII mathematics."""

from __future__ import annotations

import re
import unicodedata

LIMIT = 4096  # bytes of UTF-8: an answer stands at the end, and every rule below is linear in this

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_MARKER = re.compile(
    r"####[ \t]*|^[ \t*_]*A:[ \t]*"
    r"|\banswer[*_]*[ \t]*(?:is|are|would be|=|:)[*_]*[ \t]*:?[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ⁽⁾", "0123456789+-nx()", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉ₙₓ", "0123456789nx", strict=True))
_SUPER_RUN = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_SUB_RUN = re.compile(f"[{''.join(_SUBSCRIPTS)}]+")
_FRACTIONS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5"}
_FRACTIONS |= {"⅗": "3/5", "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8"}
_FRACTIONS |= {"⅝": "5/8", "⅞": "7/8"}
_GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi "
    "psi omega Delta Sigma Omega phi"
)
_GREEK = dict(zip("αβγδεζηθκλμνξρστφχψωΔΣΩϕ", _GREEK_NAMES.split(), strict=True))
_GLYPHS = {
    **dict.fromkeys("−–—‒﹣－", "-"),
    **dict.fromkeys("×·⋅∙✕＊∗", "*"),
    **dict.fromkeys("÷⁄∕／", "/"),
    **dict.fromkeys("≤⩽", r"\le "),
    **dict.fromkeys("≥⩾", r"\ge "),
    **dict.fromkeys("\u00a0\u2007\u2009\u202f\u200a\u2002\u2003\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u2061\u2062", ""),
    **dict.fromkeys("“”„‘’′", "'"),
    **{glyph: rf" \frac{{{text[0]}}}{{{text[2]}}}" for glyph, text in _FRACTIONS.items()},
    **{glyph: rf"\{name} " for glyph, name in _GREEK.items()},
    **{"π": r"\pi ", "𝜋": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "∛": r"\sqrt[3] "},
    **{"∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "∈": r"\in ", "±": r"\pm ", "∓": r"\mp "},
    **{"≠": r"\ne ", "≈": r"\approx ", "°": r"^\circ ", "…": "...", "⋯": "...", "ℝ": r"\mathbb{R}"},
    **{"⟨": r"\langle ", "⟩": r"\rangle ", "∣": "|", "，": ",", "（": "(", "）": ")", "％": "%"},
    **{
        "＋": "+",
        "＝": "=",
        "．": ".",
        "：": ":",
        "∶": ":",
        "＜": "<",
        "＞": ">",
        "≡": "=",
        "º": r"^\circ ",
    },
    **{"ø": r"\emptyset ", "Ø": r"\emptyset ", "∖": r"\setminus ", "∨": " or ", "∧": " and "},
}
_TRANSLATION = str.maketrans(_GLYPHS)

# What LaTeX says about looks, in the order in which it has to go.
_LAYOUT = [
    (re.compile(r"\\!\s*|\{\s*\}"), ""),
    (re.compile(r"\{,\}\s*"), ","),
    (re.compile(r"\\\\\s*\[[\d.]+\w*\]"), r"\\\\"),
    (re.compile(r"\\(?:left|right|[bB]igg?[lr]?|middle)(?![a-z])\s*\.?"), ""),
    (re.compile(r"\\(?:displaystyle|textstyle|limits|hfill|hline|bf|rm|it)(?![A-Za-z])"), ""),
    (re.compile(r"(?<!\\)\\[,;: ]|~|\\(?:quad|qquad|thinspace|enspace)(?![A-Za-z])|\\\n"), " "),
    (re.compile(r"\\[dtc]frac"), r"\\frac"),
    (re.compile(r"\\frac(\d)(\d{2,})(?!\d)"), r"\\frac{\1}{\2}"),  # braces lost, \frac9{19}
    (re.compile(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree|\\textdegree"), " deg "),
    (re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|\\R(?![a-zA-Z])"), r"\\reals "),
    (re.compile(r"\\(begin|end)([bpvBV]?matrix)"), r"\\\1{\2}"),
    (re.compile(r"\\(?:cdot|times|ast)(?![a-z])\s*"), "*"),
    (re.compile(r"\\div(?![a-z])"), "/"),
    (re.compile(r"\\(?:leq|leqslant|le)(?![a-z])"), "<="),
    (re.compile(r"\\(?:geq|geqslant|ge)(?![a-z])"), ">="),
    (re.compile(r"\\(?:lt)(?![a-z])"), "<"),
    (re.compile(r"\\(?:gt)(?![a-z])"), ">"),
    (re.compile(r"\\(?:neq|ne)(?![a-z])"), "!="),
    (re.compile(r"\\(?:lor|vee)(?![a-z])"), " or "),
    (re.compile(r"\\(?:land|wedge)(?![a-z])"), " and "),
    (re.compile(r"\\(?:ldots|dots|cdots)(?![a-z])"), "..."),
    (re.compile(r"\\(?:varnothing|O(?![a-zA-Z]))"), r"\\emptyset"),
    (re.compile(r"\\lbrace"), r"\\{"),
    (re.compile(r"\\rbrace"), r"\\}"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\([&#_])"), r"\1"),
    (re.compile(r"\\(pm|mp)\s*\*"), r"\\\1 "),
]
_FACE = re.compile(
    r"\\(?:text(?:bf|it|rm|tt|sf|normal)?|math(?:rm|bf|it|sf|tt)|mbox|hbox|operatorname\*?|emph"
    r"|boldsymbol|bm|underline|overrightarrow|vec|hat|fbox|boxed)\s*\{([^{}]*)\}"
)
_BARE_FACE = re.compile(r"\\(?:mbox|text|mathrm|mathbf|vec|hat)")
_DOLLAR = re.compile(r"\\\$|US\$|\$(?=\s*-?[\d.])(?=[^$]*$)")
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]|\$\$?")
_TIMES_X = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))")
_BLANKS = re.compile(r"\s+")


def tail(text: str) -> str:
    """Return the last ``LIMIT`` bytes of ``text`` that hold whole words, without lone surrogates.

    A cut through the middle of a word is not kept: half a number is another number.
    """
    if len(text) <= LIMIT and text.isascii():
        return text
    data = text[-LIMIT:].encode("utf-8", "ignore")
    if len(text) <= LIMIT and len(data) <= LIMIT:
        return data.decode()
    words = data[-LIMIT:].decode("utf-8", "ignore").split(None, 1)
    return words[1] if len(words) == 2 else ""


def stated(text: str) -> str:
    """Return the part of ``text`` that is its answer: the last box, or else the last one stated."""
    if "\\" in text and (boxed := _last_boxed(text)) is not None:
        return boxed
    if tagged := _TAGGED.findall(text):
        return str(tagged[-1])
    marker = _last(_MARKER, text)
    if marker is not None and (rest := text[marker.end() :].strip(" \t\n*_")):
        return rest if "\\begin" in rest else rest.split("\n", 1)[0]
    return text if "\n" not in text or "\\begin" in text else _last_line(text)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text):
        found = match
    return found


def _last_boxed(text: str) -> str | None:
    start = _last(_BOX, text)
    if start is None:
        return None
    depth, position = 1, start.end()
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                break
        position += 1
    return text[start.end() : position]


def _last_line(text: str) -> str:
    """The last line that says something, which a closing fence does not."""
    lines = (line for line in reversed(text.splitlines()) if _SAYS.search(line))
    return next(lines, "")


_SAYS = re.compile(r"\w|\\emptyset")
_SENTENCE = re.compile(r"(?<=[^\s.])(?:[.!;]|\?(?=\s))(?:\s+|$)")
_REJECTED = re.compile(r",?\s+(?:and\s+)?not\s+[^,]*$")
_CONNECTIVE = re.compile(
    r".*(?:\b(?:is|are|be|was|equals|gives?|gets?|have|has|hence|therefore|thus|so|actually|yields?)\b"
    r"|:|\\(?:implies|Rightarrow|therefore)|=>|∴)\s*(?:that\b|equal to\b|just\b|exactly\b)?",
    re.IGNORECASE | re.DOTALL,
)
_SEGMENT = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]|\*\*([^*]+)\*\*")
_NUMBER = re.compile(r"[-−]?[$£€]?\d[\d,]*(?:\.\d+)?(?:/\d+)?\s?%?")
_HEDGE = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|probably|not|about|approximately|around|roughly|nearly"
    r"|almost|between|least|most|more|less|if|unless|unsure|guess|could|might|isn't|never)\b|\?|≈|\\approx",
    re.IGNORECASE,
)
# a bound or a left-out value is not the value: |x| < 2
_RELATED = re.compile(r"<|>|[≤≥≠]|\\(?:leq?|geq?|neq?|lt|gt|leqslant|geqslant)(?![a-z])")


def statements(text: str) -> list[str]:
    """Return what a sentence of prose may state, the likeliest first; nothing if it hedges."""
    text = _BLANKS.sub(" ", text)
    sentences = [part for part in _SENTENCE.split(text) if part.strip()]
    telling = [part for part in sentences if any(map(str.isdigit, part)) or "\\" in part]
    if not sentences:
        return []
    sentence = _REJECTED.sub("", (telling or sentences)[-1])
    found = [sentence] if sentence != text else []
    if (connected := _CONNECTIVE.match(sentence)) is not None:
        found.append(sentence[connected.end() :])
    if hedges(sentence) or _RELATED.search(sentence):
        return found
    if segments := _SEGMENT.findall(sentence):
        found.append("".join(segments[-1]))
    numbers = _NUMBER.findall(sentence)
    if len(numbers) == 1:
        found.append(numbers[0].rstrip(","))
    return found


def hedges(text: str) -> bool:
    """Tell whether ``text`` states no single answer: ``3 or 4``, ``about 3``."""
    return _HEDGE.search(text) is not None


def latex(text: str) -> str:
    """Return ``text`` for another parser: plain glyphs, no delimiters, layout left as it is."""
    text = text if text.isascii() else _ascii(text)
    return _BLANKS.sub(" ", _DELIMITERS.sub(" ", text)).strip(" .*`")


def clean(text: str) -> str:
    """Return ``text`` without wrappers, layout commands and foreign glyphs, blanks collapsed."""
    if not text.isascii():
        text = _ascii(text)
    text = _DOLLAR.sub(" ¤", text)
    if "\\" in text or "$" in text or "{" in text:
        text = _without_layout(text)
    text = _TIMES_X.sub("*", text)
    return trim(_BLANKS.sub(" ", text))


def _ascii(text: str) -> str:
    text = _SUPER_RUN.sub(lambda run: "^{" + "".join(map(_SUPERSCRIPTS.get, run[0])) + "}", text)  # type: ignore[arg-type]
    text = _SUB_RUN.sub(lambda run: "_{" + "".join(map(_SUBSCRIPTS.get, run[0])) + "}", text)  # type: ignore[arg-type]
    return "".join(map(_digit, text.translate(_TRANSLATION)))


def _digit(character: str) -> str:
    """Any script's decimal digit is a digit; circled and other fancy numerals are not."""
    if character.isascii():
        return character
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)


def _without_layout(text: str) -> str:
    text = _DELIMITERS.sub(" ", text)
    for pattern, replacement in _LAYOUT:
        text = pattern.sub(replacement, text)
    for _ in range(5):  # faces nest: \textbf{\text{...}}
        text, count = _FACE.subn(r" \1 ", text)
        if not count:
            break
    return _BARE_FACE.sub(" ", text)


def trim(text: str) -> str:
    """Return ``text`` without the punctuation of a sentence or of markdown around it."""
    text = text.strip().lstrip("*`:;,_ ").rstrip("*`;,: ")
    while text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip("*`;, ")
    return text
