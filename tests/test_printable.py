"""What a person sees of a stranger's text."""

import pickle
import sys
import unicodedata

import pytest

from ae_search.errors import AeSearchError, ConfigurationError
from ae_search.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\tb\nc\rd", r"a\tb\nc\rd"),
        ("\x7f\x9b\x85", r"\x7f\x9b\x85"),
        ("\u202egnp\u2069\u200e\u061c", r"\u202egnp\u2069\u200e\u061c"),
        ("a\u200bb\u200dc\ufeff", r"a\u200bb\u200dc\ufeff"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\udcff\ud800", r"\udcff\ud800"),
        ("\ue000\U0010ffff\U000e0041", r"\ue000\U0010ffff\U000e0041"),
        ("a\u3164b\u034f\U000e0101", r"a\u3164b\u034f\U000e0101"),
        ("a\u200d", r"a\u200d"),
        ("\u200d\ufe0f", r"\u200d\ufe0f"),
        ("a\ufe0f\u200d\U0001f4bb", r"a\ufe0f\u200d" + "\U0001f4bb"),
        ("\u2764\u200d\u200d\u2764", "\u2764" + r"\u200d\u200d" + "\u2764"),
    ],
)
def test_what_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        r"C:\temp\x1b",
        "Müller, Łódź, Ελλάδα, Київ",
        "猫 東京\u3000駅 한국어",
        "שלום مرحبا ไทย हिन्दी",
        "e\u0301",
        "[red] %s {0} $x$",
        "\u2764\ufe0f \U0001f469\u200d\U0001f4bb \U0001f469\U0001f3fd\u200d\U0001f680 \U0001f3f3\ufe0f\u200d\U0001f308",
    ],
)
def test_what_stays(text):
    assert printable(text) == text


def test_every_character():
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    for number in range(sys.maxunicode + 1):
        shown = printable(chr(number))
        assert shown == chr(number) or shown.isascii()
        assert printable(shown) == shown
        if unicodedata.category(chr(number)) in hidden:
            assert shown.startswith("\\")


def test_the_text_of_every_error_is_printable():
    error = ConfigurationError("no index \x1b[2J\u202e in 'x\ny'")
    assert str(error) == r"no index \x1b[2J\u202e in 'x\ny'"
    assert f"{error}" == str(error) == str(pickle.loads(pickle.dumps(error)))
    assert str(AeSearchError()) == ""
    assert error.args == ("no index \x1b[2J\u202e in 'x\ny'",)
