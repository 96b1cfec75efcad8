"""The building blocks of `report.html`: escaping, tables, folds and the page around them."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NewType

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")

Html = NewType("Html", str)  # escaped already; a plain `str` never reaches the page as it is

# What must not act on the page, as what is shown in its place.
_SHOWN: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},  # as symbols
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD),
    **{
        code: f"[U+{code:04X}]" for code in [0x61C, 0x200E, 0x200F]
    },  # these turn the text's direction
    **{code: f"[U+{code:04X}]" for code in [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]},
    0x7F: 0x2421,
}


def text(value: object) -> Html:
    """Anything as text of the page: markup escaped, control characters shown, not obeyed."""
    return Html(html.escape(str(value).translate(_SHOWN)))


def join(*parts: Html) -> Html:
    """Pieces of the page, one after the other."""
    return Html("".join(parts))


def tag(name: str, *inside: Html, css: str = "") -> Html:
    """One element around pieces of the page."""
    attribute = f' class="{css}"' if css else ""
    return Html(f"<{name}{attribute}>{''.join(inside)}</{name}>")


def section(title: str, *inside: Html) -> Html:
    """A part of the page, left out when there is nothing in it."""
    return tag("section", tag("h2", text(title)), *inside) if any(inside) else Html("")


def fold(summary: Html, *inside: Html) -> Html:
    """Something to open."""
    return tag("details", tag("summary", summary), *inside)


def table(head: Sequence[str], rows: Sequence[Sequence[Html]]) -> Html:
    """A table of pieces of the page; its first column names, the others are numbers.

    Returns:
        Nothing when there are no rows.
    """
    if not rows:
        return Html("")
    top = tag("tr", *(tag("th", text(name)) for name in head))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("div", tag("table", tag("thead", top), tag("tbody", *body)), css="scroll")


def picture(path: Path, about: str) -> Html:
    """A PNG inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return Html(f'<img src="data:image/png;base64,{data}" alt="{text(about)}">')


def thumbnail(png: str, about: str) -> Html:
    """A picture of an episode, given as base64; nothing if it is no base64 at all."""
    if not _BASE64.fullmatch(png):
        return Html("")
    return Html(
        f'<img class="thumb" src="data:image/png;base64,{png}" alt="{text(about)}" '
        f'title="{text(about)}">'
    )


def number(value: float | None) -> str:
    """A number to three digits; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "0" if shown == "-0" else shown.replace("-", "−")


def percent(value: float | None) -> str:
    """A share in percent, not broken at a line's end; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}\u00a0%".replace("-0.0", "0.0").replace("-", "−")


def signed(shown: str) -> str:
    """A change as shown by `number` or `percent`, with a plus where it is one."""
    return (
        f"+{shown}" if any(digit in shown for digit in "123456789") and shown[0] != "−" else shown
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def page(title: str, *inside: Html, style: str = "", script: str = "") -> str:
    """The whole page: one file that loads nothing, and runs nothing but the script given here.

    Args:
        title: Of the window.
        inside: The body.
        style: More CSS, of ours.
        script: JavaScript, of ours; no other runs, because the page names its hash.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"; script-src 'sha256-{digest}'" if script else ""
    runs = f"<script>{script}</script>\n" if script else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'{allowed}">
<title>{text(title)}</title>
<style>{_CSS}{style}</style>
</head>
<body><main>
{chr(10).join(inside)}
</main>
{runs}</body>
</html>
"""


_CSS = """
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #fff; --ink: #1b2330; --soft: #5d6878;
  --line: #e2e6ec; --blue: #0072b2; --well: #f1f4f8; --good: #00735a; --bad: #b8420a; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161c; --card: #1b212a; --ink: #e4e8ee;
  --soft: #9aa6b6; --line: #2f3845; --blue: #5ab4e5; --well: #141a22; --good: #3ecfa4;
  --bad: #ff9a62; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { margin: 0; font-size: 27px; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 0 0 12px; font-size: 18px; }
h3 { margin: 18px 0 6px; font-size: 15px; }
p { margin: 6px 0; } .soft { color: var(--soft); font-size: 13.5px; }
section { margin-top: 18px; padding: 18px 20px; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; }
.cards { display: grid; gap: 12px; margin-top: 18px;
  grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); }
.card { padding: 12px 16px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.card b { display: block; font-size: 22px; line-height: 1.35; font-variant-numeric: tabular-nums; }
.plots { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); }
img { width: 100%; height: auto; align-self: start; background: #fff; border-radius: 6px; }
.beside { display: flex; gap: 14px; align-items: flex-start; flex-wrap: wrap; }
.beside > pre { flex: 1 1 320px; }
img.thumb { width: auto; max-width: 220px; max-height: 220px; min-width: 96px; margin-top: 6px;
  display: block; image-rendering: auto; border: 1px solid var(--line); }
.scroll { overflow-x: auto; } .scroll + .scroll { margin-top: 22px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
th, td { padding: 5px 12px 5px 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 0; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.bar { display: inline-block; height: 9px; margin-right: 8px; border-radius: 3px;
  background: var(--blue); }
details { border: 1px solid var(--line); border-radius: 8px; margin: 8px 0; padding: 0 14px; }
details[open] { padding-bottom: 12px; }
summary { padding: 9px 0; cursor: pointer; overflow-wrap: anywhere; }
.chip { display: inline-block; margin-left: 6px; padding: 0 8px; border-radius: 9px;
  background: var(--well); color: var(--soft); font-size: 13px; }
pre { margin: 6px 0 10px; padding: 10px 12px; background: var(--well); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 480px; overflow-y: auto;
  font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; unicode-bidi: isolate; }
.assistant { border-left: 3px solid var(--blue); }
.role { color: var(--soft); font-size: 12.5px; font-weight: 600; }
@media print { details { break-inside: avoid; } section { border: 0; padding: 8px 0; } }
"""
