"""How well a model's decoder gives back images that an index holds: what is usual, for queries to be compared with."""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Encoder, Index, ModelCard
from ae_search.data import Source
from ae_search.errors import ImageError
from ae_search.image_file import image_pixels, pixels_to_png
from ae_search.trust import MOST_ITEMS, Floats, held_out, reconstruction_errors

log = logging.getLogger(__name__)

# Each is read a second time.
_MOST_FILES = 300
# Records can be read from the beginning only: images behind so many are left out.
_MOST_RECORDS = 20_000
_PIXEL_BYTES = 64 * 2**20


def errors_of_items(index: Index, encoder: Encoder, sources: Sequence[Source]) -> Floats | None:
    """Return the reconstruction errors of up to 1000 images of arrays, or of 300 files, float32 `[m]`.

    Args:
        index: The index, which holds their latents.
        encoder: An encoder of the index's model.
        sources: Where the images are, by their keys; the first one that has a key counts.

    Returns:
        None where the model has no decoder, or the index fewer than 100 items.
    """
    card = encoder.describe()
    if not card.decodes:
        return None
    most = MOST_ITEMS if all(source.image_shape for source in sources) else _MOST_FILES
    together = max(1, _PIXEL_BYTES // (4 * prod(card.image_shape)))
    errors = [np.zeros(0)]
    images = images_of_items(held_out(index, most), sources, card)
    while part := list(islice(images, together)):
        decoded = encoder.decode(index.latents([key for key, _ in part]))
        errors.append(reconstruction_errors(np.stack([pixels for _, pixels in part]), decoded))
    found = np.concatenate(errors).astype(np.float32)
    return found if len(found) else None


def images_of_items(
    keys: Sequence[str], sources: Sequence[Source], card: ModelCard
) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Yield some keys and their images, in the order of their sources; what is gone is left out.

    Args:
        keys: The keys.
        sources: Where the images are; the first one that has a key counts.
        card: The model; the images are uint8 `[h, w, c]` of its shape.
    """
    for source in sources:
        at = sorted((position, key) for key in keys if (position := source.position(key)) is not None)
        for position, key in at:
            if not source.any_order and position >= _MOST_RECORDS:
                break
            try:
                yield key, _pixels(source.read(position), source.place(position), card)
            except ImageError as error:
                log.info("not looked at again: %s", error)
        keys = [key for key in keys if key not in {key for _, key in at}]


def _pixels(image: bytes | npt.NDArray[Any], name: str, card: ModelCard) -> npt.NDArray[np.uint8]:
    if not isinstance(image, bytes):
        if image.shape == card.image_shape:
            return image
        image = pixels_to_png(image)
    return image_pixels(image, name, card.image_shape, fit=card.fit, version=card.preprocessing_version)
