"""Search by image: an encoder, served or in this process, and an index that belong together."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Encoder, ModelCard
from ae_search.errors import ModelMismatchError, ModelNotServedError
from ae_search.index import LatentIndex, Neighbour

ImageInput = Path | str | bytes | npt.NDArray[Any]


class ImageSearch:
    """Finds the images of an index that are most similar to a query image.

    Construction is the handshake: the encoder is pinned to the version that the index was built with, or to the
    newest one if that has the same fingerprint.

    Args:
        encoder: `LatentClient` or `LocalEncoder`.
        index: The index.

    Raises:
        ModelMismatchError: The encoder has no version with the index's fingerprint.
        ServerError: The encoder does not answer.

    Example:
        search = ImageSearch(LatentClient("127.0.0.1:8500", model="fashion"), LatentIndex.open("index"))
        for neighbour in search.search("photo.jpg", k=10):
            print(neighbour.rank, neighbour.key, neighbour.similarity)
    """

    def __init__(self, encoder: Encoder, index: LatentIndex) -> None:
        self.index = index
        self.encoder = _matching(encoder, index)

    def search(self, image: ImageInput, k: int = 10, *, exact: bool = False) -> list[Neighbour]:
        """Return the `k` most similar images, the most similar first.

        Args:
            image: A path, the bytes of an image file, or pixels `[h, w, c]` of the model's shape, uint8 or in [0, 1].
            k: How many, at least 1; fewer come where the index holds fewer.
            exact: Compare with every item instead of walking the forest.

        Raises:
            ImageError: The image cannot be decoded or has the wrong shape.
            ServerError: The encoder does not answer.
        """
        return self.search_batch([image], k, exact=exact)[0]

    def search_batch(
        self, images: list[ImageInput] | list[Path], k: int = 10, *, exact: bool = False
    ) -> list[list[Neighbour]]:
        """Return the `k` most similar images for each of `images`: all arrays of one shape, or all files."""
        if not len(images):
            return []
        if isinstance(images[0], np.ndarray):
            latents = self.encoder.encode(np.stack(images))  # type: ignore[arg-type]
        else:
            latents = self.encoder.encode_files(images)  # type: ignore[arg-type]
        return self.index.search(latents, k, exact=exact)


def _matching(encoder: Encoder, index: LatentIndex) -> Encoder:
    """Return the encoder pinned to a version whose fingerprint is the index's."""
    wanted = index.model
    pinned = encoder.at_version(wanted.version)
    try:
        card = pinned.describe()
    except ModelNotServedError:
        card = encoder.describe()
        pinned = encoder.at_version(card.version)
    if card.fingerprint == wanted.fingerprint:
        return pinned
    raise ModelMismatchError(
        f"{index.path} was built with {wanted.name} version {wanted.version} (fingerprint {wanted.fingerprint[:12]}), "
        f"but {_told(card)} answered; serve that version, or build the index anew with "
        "`ae-search index build --replace`."
    )


def _told(card: ModelCard) -> str:
    return f"{card.name} version {card.version} (fingerprint {card.fingerprint[:12]})"
