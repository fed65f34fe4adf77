"""Labels made to hurt, as captions of pictures: they are no formulas, and they crash no plot."""

import numpy as np
import pytest
from hostile_text import HOSTILE

from ae_search.data import ArraySource
from ae_search.plots import Picture, plot_neighbours, plot_samples

PIXELS = np.zeros((4, 4), np.uint8)


@pytest.mark.parametrize("usetex", [False, True])
def test_captions_are_plain_text(tmp_path, usetex):
    import matplotlib

    # A warning of a missing glyph would be an error here: what cannot be drawn is escaped.
    rows = [[Picture(PIXELS, text), Picture(None, text * 20)] for text in HOSTILE.values()]
    queries = [Picture(PIXELS, text) for text in HOSTILE.values()]
    images = np.zeros((len(HOSTILE), 4, 4, 1), np.uint8)
    with matplotlib.rc_context({"text.usetex": usetex}):
        plot_neighbours(queries, rows, tmp_path / "neighbours.png")
        plot_samples(ArraySource("$\\frac{\x1b", images, list(HOSTILE.values())), tmp_path / "samples.png")
    for name in ("neighbours.png", "samples.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
