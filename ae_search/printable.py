"""Text of strangers as it may be shown to a person: in one line, all of it visible, with nothing that is obeyed."""

import unicodedata

# Python calls them printable, and yet nothing is seen of them: joiners, fillers, selectors and a blank of Braille.
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)
# Within an emoji they choose the picture; anywhere else they hide.
_JOINER, _SELECTORS = "\u200d", "\ufe0e\ufe0f"
# The space of Japanese and Chinese texts.
_WIDE_SPACE = "\u3000"


def printable(text: str) -> str:
    r"""Return text in which every character shows, in one line.

    Control characters, line breaks, what turns the writing direction, what cannot be seen, unassigned and private
    characters, and halves of surrogate pairs (from file names that are not UTF-8) become the escapes that Python
    writes: `\x1b`, `\n`, `\u202e`, `\udcff`. Letters and signs of all scripts stay, and so do emoji that are joined
    into one picture.

    Done twice it changes nothing more, since a backslash stays as it is; who needs the exact text reads JSON.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if _shows(text, at) else _escape(one) for at, one in enumerate(text))


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def _shows(text: str, at: int) -> bool:
    one = text[at]
    if one in _SELECTORS:
        return _is_picture(text, at - 1)
    if one == _JOINER:
        before = at - 1 if text[at - 1] not in _SELECTORS else at - 2
        return _is_picture(text, before) and _is_picture(text, at + 1)
    return (one.isprintable() or one == _WIDE_SPACE) and one not in _UNSEEN


def _is_picture(text: str, at: int) -> bool:
    """Tell whether there is an emoji or another symbol at a place, or the skin colour of one."""
    if not 0 <= at < len(text) or text[at] in _UNSEEN:
        return False
    return unicodedata.category(text[at]) == "So" or "\U0001f3fb" <= text[at] <= "\U0001f3ff"
