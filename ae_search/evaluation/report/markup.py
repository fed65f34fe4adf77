"""HTML that is right by construction: whatever is not `Markup` is made harmless and escaped."""

import html
import math
import unicodedata
from collections.abc import Mapping, Sequence

LABEL_CHARACTERS = 40
SENTENCE_CHARACTERS = 400

Attributes = Mapping[str, str | float | None]

_VOID = frozenset({"img", "meta", "br", "col"})
# They let a text reorder what stands beside it.
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Markup(str):
    """Text that is HTML already."""


def element(name: str, *content: object, cls: str = "", attributes: Attributes | None = None) -> Markup:
    """Return an element.

    Args:
        name: Its name.
        content: `Markup`, or text that is escaped.
        cls: Its classes.
        attributes: Further attributes; those that are None are left out.
    """
    pairs = {"class": cls or None, **(attributes or {})}
    told = "".join(f' {key}="{escaped(str(value))}"' for key, value in pairs.items() if value is not None)
    if name in _VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(content)}</{name}>")


def joined(content: Sequence[object]) -> Markup:
    """Return pieces one after the other, escaping what is no `Markup`."""
    return Markup("".join(one if isinstance(one, Markup) else escaped(str(one)) for one in content))


def escaped(text: str) -> Markup:
    """Return text of a stranger as HTML that shows it, for contents and attributes."""
    return Markup(html.escape(harmless(text)))


def harmless(text: str) -> str:
    """Return text in one line, without what a file cannot hold and what reorders its surroundings."""
    return "".join(_harmless_character(one) for one in text)


def _harmless_character(one: str) -> str:
    if one in _BIDI_CONTROLS:
        return ""
    kind = unicodedata.category(one)
    if kind in ("Cc", "Zl", "Zp"):
        return " " if one.isspace() else "\N{REPLACEMENT CHARACTER}"
    # Half a surrogate pair has no UTF-8, and HTML must not hold a noncharacter.
    noncharacter = ord(one) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(one) <= 0xFDEF
    return "\N{REPLACEMENT CHARACTER}" if kind == "Cs" or noncharacter else one


def shortened(text: str, characters: int = LABEL_CHARACTERS) -> str:
    """Return the text, or its beginning and an ellipsis."""
    text = harmless(text)
    return text if len(text) <= characters else text[: characters - 1] + "…"


def label_text(label: str | None) -> str:
    """Return what to call a label in plain text."""
    return "no label" if label is None else shortened(label) if label.strip() else "(blank)"


def key_text(key: str, characters: int = LABEL_CHARACTERS) -> str:
    """Return a key, or an ellipsis and its end, which is what tells files of one folder apart."""
    key = harmless(key)
    return (key if len(key) <= characters else "…" + key[1 - characters :]) if key.strip() else "(blank)"


def name_of(text: str | None) -> Markup:
    """Return a label, key or other name of a stranger; its writing direction does not leak."""
    return element("bdi", label_text(text))


def decimal(value: float | None, digits: int = 3) -> str:
    """Return a figure, a dash where there is none."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "–"


def table(
    head: Sequence[object], rows: Sequence[Sequence[object]], *, caption: str, cls: str = "", first: str = "row"
) -> Markup:
    """Return a table that scrolls by itself where it is wider than the page.

    Args:
        head: Headers of the columns.
        rows: Cells; a `Markup` that is a `td` or `th` already stays as it is. The first of a row is its header.
        caption: What it shows.
        cls: Its classes.
        first: Scope of the first cells, "row"; "" where they are no headers.
    """
    header = element("tr", *(element("th", one, attributes={"scope": "col"}) for one in head))
    body = [element("tr", *(_cell(one, first if at == 0 else "") for at, one in enumerate(row))) for row in rows]
    content = (element("caption", element("span", caption)), element("thead", header), element("tbody", *body))
    # With tabindex a keyboard can scroll it.
    around = {"tabindex": "0", "role": "region", "aria-label": caption}
    return element("div", element("table", *content, cls=cls), cls="scroll", attributes=around)


def _cell(content: object, scope: str) -> Markup:
    if isinstance(content, Markup) and content.startswith(("<td", "<th")):
        return content
    return element("th", content, attributes={"scope": scope}) if scope else element("td", content)


def section(anchor: str, title: str, *content: object) -> Markup:
    """Return a section with a heading that can be linked to."""
    heading = element("h2", title, attributes={"id": f"{anchor}-title"})
    return element("section", heading, *content, attributes={"id": anchor, "aria-labelledby": f"{anchor}-title"})
