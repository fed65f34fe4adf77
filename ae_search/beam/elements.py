"""What goes through a pipeline: images as they are read, and what became of them."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ae_search.data.sources import Pixels


class Image(NamedTuple):
    """An image, or why there is none.

    Attributes:
        key: The key that `ae-search embed` gives it.
        place: Where it lies, for messages; no two images have the same.
        data: An image file, or pixels uint8 `[h, w, c]`; None where it cannot be read.
        label: Its label, None where it has none.
        metadata: What its source says of it beside the label.
        reason: Why it cannot be read.
    """

    key: str
    place: str
    data: bytes | Pixels | None
    label: str | None = None
    metadata: dict[str, Any] | None = None
    reason: str | None = None


class EncodedImage(NamedTuple):
    """The latent of an image, or why it has none.

    Attributes:
        key: As `Image.key`.
        place: As `Image.place`.
        latent: Float32 `[d]`; None where the image was left out.
        label: As `Image.label`.
        metadata: As `Image.metadata`.
        reason: Why it was left out.
        refused: Whether it was the server that refused it, although it can be decoded.
        truncated: Whether it is a JPEG file that is cut short, of which the part that is there was encoded.
    """

    key: str
    place: str
    latent: npt.NDArray[np.float32] | None
    label: str | None = None
    metadata: dict[str, Any] | None = None
    reason: str | None = None
    refused: bool = False
    truncated: bool = False
