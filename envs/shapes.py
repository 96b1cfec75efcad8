"""Scenes with one question each, and how they are drawn; all chance comes from one seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

SIDE = 224  # pixels
GRID = 4  # cells a side that shapes are put into
HARDEST = 5
COLOURS = {
    "red": "#d62728",
    "blue": "#1f77b4",
    "green": "#2ca02c",
    "orange": "#ff9f1c",
    "purple": "#8e44ad",
    "black": "#1a1a1a",
}
SHAPES = ("circle", "square", "triangle", "star")
PLACES = ("left", "right", "above", "below")

Mark = tuple[Any, ...]  # (what, *numbers, colour or text), drawn in order


class Scene(NamedTuple):
    """A question, its answer and the marks of the drawing.

    Attributes:
        question: About the drawing.
        answer: As text; one of the choices where there are any.
        marks: What to draw.
        choices: To choose from, or none.
        unit: Of a number, or empty.
    """

    question: str
    answer: str
    marks: tuple[Mark, ...]
    choices: tuple[str, ...] = ()
    unit: str = ""


def scene(kind: str, difficulty: int, seed: int) -> Scene:
    """The scene of that kind, difficulty (1 to 5) and seed; the same on every machine."""
    return SCENES[kind](random.Random(f"{kind} {difficulty} {seed}"), difficulty)


def drawings(kinds: Sequence[str], difficulty: int, size: int) -> list[dict[str, Any]]:
    """Rows whose `image` is the marks of a drawing; the kinds of scene take turns."""
    return [_row(kinds[i % len(kinds)], difficulty, i) for i in range(size)]


def paint(marks: Sequence[Mark]) -> Any:
    """The drawing as a `PIL.Image`, RGB, `SIDE` x `SIDE` pixels."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    for what, *given in marks:
        _PAINTERS[what](draw, *given)
    return image


def _count(rng: random.Random, difficulty: int) -> Scene:
    """How many of a shape there are, among others from difficulty 2 on."""
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    number = rng.randint(1, 1 + 2 * difficulty)
    wanted = [(shape, colour)] * number
    others = [_other(rng, shape, colour) for _ in range(min(difficulty - 1, 3) * 2)]
    marks = _scattered(rng, [*wanted, *others][: GRID * GRID])
    return Scene(f"How many {colour} {shape}s are there?", str(number), marks)


def _colour(rng: random.Random, difficulty: int) -> Scene:
    """The colour of the only shape of its kind."""
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    rest = [s for s in SHAPES if s != shape]
    others = [(rng.choice(rest), rng.choice(list(COLOURS))) for _ in range(2 * (difficulty - 1))]
    marks = _scattered(rng, [(shape, colour), *others])
    return Scene(f"What colour is the {shape}?", colour, marks)


def _position(rng: random.Random, difficulty: int) -> Scene:
    """On which side of another shape one stands, in its row or column."""
    shapes = rng.sample(SHAPES, 2)
    colours = rng.sample(list(COLOURS), 2)
    place, line = rng.randrange(len(PLACES)), rng.randrange(GRID)
    near, far = sorted(rng.sample(range(GRID), 2))
    along = (near, far) if PLACES[place] in ("left", "above") else (far, near)
    cells = [(x, line) if place < 2 else (line, x) for x in along]
    free = [c for c in _cells() if c not in cells]
    others = [(rng.choice(SHAPES), c) for c in COLOURS if c not in colours][: difficulty - 1]
    named = list(zip(shapes, colours, strict=True))
    marks = _placed(rng, [*named, *others], [*cells, *rng.sample(free, len(others))])
    (shape, colour), (mate, hue) = named
    question = f"Seen from the {hue} {mate}, where is the {colour} {shape}?"
    return Scene(question, PLACES[place], marks, choices=PLACES)


def _chart(rng: random.Random, difficulty: int) -> Scene:
    """The height of one bar; between the lines of the grid from difficulty 3 on."""
    count = min(2 + difficulty, 6)
    step = (10, 10, 5, 2, 1)[difficulty - 1]
    values = [rng.randrange(step, 101, step) for _ in range(count)]
    asked = rng.randrange(count)
    left, bottom, width = 36, SIDE - 28, (SIDE - 44) / count
    marks: list[Mark] = []
    for tick in range(0, 101, 20):
        y = bottom - tick * 1.7
        marks += [("line", left, y, SIDE - 6, y, "#cccccc", 1), ("text", 18, y, str(tick))]
    for i, value in enumerate(values):
        x, colour = left + i * width, list(COLOURS.values())[i]
        marks.append(("bar", x + 4, bottom - value * 1.7, x + width - 4, bottom, colour))
        marks.append(("text", x + width / 2, bottom + 13, "ABCDEF"[i]))
    return Scene(f"What is the value of bar {'ABCDEF'[asked]}?", str(values[asked]), tuple(marks))


def _angle(rng: random.Random, difficulty: int) -> Scene:
    """The angle between two rays, in whole steps that get finer."""
    step = (45, 30, 15, 10, 5)[difficulty - 1]
    angle = step * rng.randint(1, 179 // step)
    turn = math.radians(rng.randrange(360))
    rays = [(turn, 96), (turn + math.radians(angle), 96)]
    centre = SIDE / 2
    ends = [(centre + r * math.cos(a), centre - r * math.sin(a)) for a, r in rays]
    marks: list[Mark] = [("line", centre, centre, x, y, "#1a1a1a", 3) for x, y in ends]
    marks.append(("arc", centre, 30, -math.degrees(rays[1][0]), -math.degrees(turn)))
    return Scene("How large is the marked angle?", str(angle), tuple(marks), unit="degrees")


SCENES: dict[str, Callable[[random.Random, int], Scene]] = {
    "count": _count,
    "colour": _colour,
    "position": _position,
    "chart": _chart,
    "angle": _angle,
}


def _row(kind: str, difficulty: int, seed: int) -> dict[str, Any]:
    drawn = scene(kind, difficulty, seed)
    return {
        "question": drawn.question,
        "answer": drawn.answer,
        "image": drawn.marks,
        "choices": list(drawn.choices),
        "unit": drawn.unit,
        "scene": kind,
        "difficulty": difficulty,
    }


def _other(rng: random.Random, shape: str, colour: str) -> tuple[str, str]:
    """A shape and colour that differ from those in at least one."""
    pairs = [(s, c) for s in SHAPES for c in COLOURS if (s, c) != (shape, colour)]
    return rng.choice(pairs)


def _cells() -> list[tuple[int, int]]:
    return [(column, row) for column in range(GRID) for row in range(GRID)]


def _scattered(rng: random.Random, shapes: Sequence[tuple[str, str]]) -> tuple[Mark, ...]:
    return _placed(rng, shapes, rng.sample(_cells(), len(shapes)))


def _placed(
    rng: random.Random, shapes: Sequence[tuple[str, str]], cells: Sequence[tuple[int, int]]
) -> tuple[Mark, ...]:
    """Each shape in its cell, a little off its centre and of its own size."""
    cell = SIDE / GRID
    return tuple(
        (
            shape,
            (column + 0.5) * cell + rng.uniform(-5, 5),
            (row + 0.5) * cell + rng.uniform(-5, 5),
            rng.uniform(14, 21),
            COLOURS[colour],
        )
        for (shape, colour), (column, row) in zip(shapes, cells, strict=True)
    )


def _circle(draw: Any, x: float, y: float, r: float, colour: str) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _square(draw: Any, x: float, y: float, r: float, colour: str) -> None:
    draw.rectangle((x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r), fill=colour)


def _corners(x: float, y: float, radii: Sequence[float]) -> list[tuple[float, float]]:
    turns = [2 * math.pi * i / len(radii) for i in range(len(radii))]
    pairs = zip(radii, turns, strict=True)
    return [(x + r * math.sin(turn), y - r * math.cos(turn)) for r, turn in pairs]


def _triangle(draw: Any, x: float, y: float, r: float, colour: str) -> None:
    draw.polygon(_corners(x, y, [1.15 * r] * 3), fill=colour)


def _star(draw: Any, x: float, y: float, r: float, colour: str) -> None:
    draw.polygon(_corners(x, y, [1.15 * r, 0.45 * r] * 5), fill=colour)


def _line(draw: Any, x: float, y: float, to_x: float, to_y: float, colour: str, w: int) -> None:
    draw.line((x, y, to_x, to_y), fill=colour, width=w)


def _bar(draw: Any, x: float, y: float, to_x: float, to_y: float, colour: str) -> None:
    draw.rectangle((x, y, to_x, to_y), fill=colour)


def _arc(draw: Any, centre: float, r: float, start: float, end: float) -> None:
    draw.arc((centre - r, centre - r, centre + r, centre + r), start, end, fill="#d62728", width=2)


def _text(draw: Any, x: float, y: float, text: str) -> None:
    from PIL import ImageFont

    draw.text((x, y), text, fill="#1a1a1a", anchor="mm", font=ImageFont.load_default(13))


_PAINTERS: dict[str, Callable[..., None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "line": _line,
    "bar": _bar,
    "arc": _arc,
    "text": _text,
}
