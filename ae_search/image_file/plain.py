"""Images of one colour: a blank page has no meaningful neighbours."""

from typing import Any

import numpy as np
import numpy.typing as npt

# Pictures are judged at this size, in colour, whatever a model's is: in grey, at 28 x 28 px, some are hardly there.
PLAIN_SHAPE = (64, 64, 3)
# On a scale of 255, at that size. The flattest of 2,132 photographs and pictures of objects has 20; a blank page that
# was scanned has 1 to 3, one that fades from 245 to 225 has 4.4.
PLAIN_DEVIATION = 5.0


def is_plain(pixels: npt.NDArray[Any]) -> bool:
    """Return whether an image is of one colour but for noise: nothing in it could be compared.

    Args:
        pixels: uint8 `[h, w, c]`, of `PLAIN_SHAPE` or a model's.
    """
    return bool(np.asarray(pixels, np.float32).std(axis=(0, 1)).max() < PLAIN_DEVIATION)
