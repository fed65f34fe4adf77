"""Texts that strangers put into keys, labels and names, to command a terminal, to forge figures or to hide."""

import os
import re
import unicodedata

FORGED = "recall@10  1.0000 at effort 1, forged"

HOSTILE = {
    "colour": "a\x1b[38;5;201mpink",
    "clear screen": "b\x1b[2J\x1b[H",
    "hyperlink": "c\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "clipboard": "d\x1b]52;c;cm0gLXJmIH4=\x07",
    "window title": "e\x1b]0;title\x07",
    "carriage return": "f harmless\rforged",
    "backspace": "g\b\b\bforged",
    "newline": f"h\n{FORGED}",
    "tab": "i\ttab",
    "next line": "j\x85forged",
    "line separators": "k\u2028forged\u2029forged",
    "C1 colour": "l\x9b38;5;201mpink",
    "C1 title": "m\x9d0;title\x9c",
    "delete": "n\x7f",
    "bidi override": "o\u202egnp.exe\u202c",
    "bidi isolate": "p\u2066\u2067x\u2069\u200f\u061c",
    "zero width": "q\u200b\u200cr\u200ds\u2060\ufeff",
    "fillers": "s\u3164\u115f\u2800\ufe0f",
    "tags": "t\U000e0041\U000e007f",
    "private use": "u\ue000\U000f0000",
    "rich markup": "v[red]x[/red][link=https://evil.example]y[/link][/]:boom:",
    "mathtext": r"w $\frac{1$ $x_{$",
    "formats": "x %s %(name)s {0} {x!r} %",
    "surrogate": "y" + os.fsdecode(b"\xff\x9b"),
}
# What a database can hold.
STORABLE = {name: text for name, text in HOSTILE.items() if name != "surrogate"}
# What a file may be called.
FILE_NAMES = {name: text.replace("/", "_") for name, text in STORABLE.items()}

_SEEN_BY_NOBODY = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_FILLERS = set("\u3164\u115f\u2800\ufe0f")


def commands_of(output: str | bytes) -> list[str]:
    """Return what in an output is no visible text, line feeds aside: nothing, if all is well."""
    text = output.decode("utf-8") if isinstance(output, bytes) else output
    return [one for one in text if one != "\n" and (unicodedata.category(one) in _SEEN_BY_NOBODY or one in _FILLERS)]


def without_own_styles(output: bytes) -> bytes:
    """Return what a terminal received, without the colours and weights of our tables; 201 is none of our colours."""
    assert b"201m" not in re.sub(rb"\\x[0-9a-f]{2}\[?38;5;201m", b"", output)
    return re.sub(rb"\x1b\[(?:0|[0-9;]{1,8})m", b"", output.replace(b"\r\n", b"\n"))


def assert_shown(output: str | bytes) -> None:
    """Fail if an output holds what a terminal would obey or not show, or a line that a name has forged."""
    text = output.decode("utf-8") if isinstance(output, bytes) else output
    assert commands_of(text) == [], text
    assert not [line for line in text.splitlines() if line.startswith((FORGED, "forged"))], text
