"""What the tests of training share."""

import pytest

from ae_search.data import open_source


@pytest.fixture(scope="session")
def digits():
    return open_source("digits/test")
