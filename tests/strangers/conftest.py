"""Fixtures for hostile input: a file that must stay as it is."""

import pytest
from victim import Victim


@pytest.fixture
def victim(tmp_path):
    """A file of the user beside what the test works on, found untouched when the test ends."""
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = Victim(outside / "precious.txt")
    yield victim
    victim.assert_untouched()
