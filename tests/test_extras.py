"""What to install for an optional package is told in one place, and names an extra that there is."""

import configparser
import re
from pathlib import Path

import pytest

from ae_search.errors import ConfigurationError
from ae_search.extras import install, needs

ROOT = Path(__file__).parents[1]


def test_a_missing_package_is_told_with_what_to_install():
    with pytest.raises(ConfigurationError, match=r"^Pictures need this: pip install 'ae-search\[plots\]'\.$") as caught:
        with needs("Pictures need this", "plots"):
            import no_such_package_of_anybody  # noqa: F401
    assert isinstance(caught.value.__cause__, ImportError)
    with pytest.raises(ConfigurationError, match=r"'ae-search\[plots\]', or do without\.$"):
        with needs("Pictures need this", "plots", otherwise=", or do without"):
            from ae_search.errors import NoSuchName  # noqa: F401


def test_other_errors_and_packages_that_are_there_pass():
    with needs("JSON needs json", "plots"):
        import json  # noqa: F401
    with pytest.raises(ZeroDivisionError), needs("It needs nothing", "plots"):
        raise ZeroDivisionError


def test_every_extra_that_is_named_is_there_and_the_sentence_stands_once():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"])
    named = set()
    for path in (ROOT / "ae_search").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'needs\([^)]*?, "(\w+)"', text)) | set(re.findall(r"""install\(['"](\w+)""", text))
        assert path.name == "extras.py" or "pip install 'ae-search[" not in text, path
    assert len(named) >= 4
    assert named <= extras
    assert install("all") == "pip install 'ae-search[all]'"
