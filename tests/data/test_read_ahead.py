"""What is far away is read ahead for who reads in order, and for nobody else."""

import threading

import numpy as np
import pytest

from ae_search.data.sources.read_ahead import ReadAhead
from ae_search.errors import ImageError


def test_members_are_the_same_in_every_order():
    asked = []

    def read(position):
        asked.append(position)
        return b"%d" % position

    ahead = ReadAhead(read, 50)
    order = [*range(50), *np.random.default_rng(0).permutation(50).tolist(), 3, 3, 2, 1, 48, 49]
    assert [ahead.at(at) for at in order] == [b"%d" % at for at in order]
    assert max(asked) == 49


def test_who_reads_in_order_has_several_under_way():
    together = threading.Barrier(8)  # nobody passes before eight are there

    def read(position):
        if 1 <= position <= 8:
            together.wait(timeout=30)
        return b"%d" % position

    ahead = ReadAhead(read, 100)
    assert [ahead.at(at) for at in range(20)] == [b"%d" % at for at in range(20)]


def test_who_jumps_asks_for_nothing_in_vain():
    asked = []
    ahead = ReadAhead(lambda at: asked.append(at) or b"", 100)
    for at in (0, 10, 20, 5):
        ahead.at(at)
    assert asked == [0, 10, 20, 5]


def test_an_error_is_that_of_its_own_member():
    def read(position):
        if position == 3:
            raise ImageError("gone")
        return b"x"

    ahead = ReadAhead(read, 6)
    assert [ahead.at(at) for at in range(3)] == [b"x"] * 3
    with pytest.raises(ImageError, match="gone"):
        ahead.at(3)
    assert [ahead.at(4), ahead.at(5)] == [b"x"] * 2
