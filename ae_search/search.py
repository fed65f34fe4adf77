"""Search by image: an encoder, served or in this process, and an index that belong together."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Encoder, Latents, ModelRef
from ae_search.errors import ModelMismatchError, ModelNotServedError
from ae_search.handshake import matching
from ae_search.index import LatentIndex, Neighbour
from ae_search.index.where import Where

ImageInput = Path | str | bytes | npt.NDArray[Any]

# How often the index may move on to another model within one search.
_HANDSHAKES = 3


class ImageSearch:
    """Finds the images of an index that are most similar to a query image.

    Construction is the handshake: the encoder is pinned to the version that the index was built with, or to the
    newest one if that has the same fingerprint. When the index is rebuilt with another model, the next search shakes
    hands anew; no latent is ever compared with those of another model.

    Args:
        encoder: `LatentClient` or `LocalEncoder`.
        index: The index.

    Attributes:
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
        self._given = encoder
        self._matched = self._shake_hands()

    @property
    def encoder(self) -> Encoder:
        """The encoder, pinned to the index's version."""
        return self._matched[0]

    def search(
        self,
        image: ImageInput,
        k: int = 10,
        *,
        where: Where | None = None,
        search_k: int | None = None,
        exact: bool = False,
    ) -> list[Neighbour]:
        """Return the `k` most similar images, the most similar first.

        Args:
            image: A path, the bytes of an image file, or pixels `[h, w, c]` of the model's shape, uint8 or in [0, 1].
            k: How many, at least 1; fewer come where the index holds fewer.
            where: Conditions that an item must meet; see `LatentIndex.search`.
            search_k: Candidates to look at; see `LatentIndex.search`.
            exact: Whether to compare with every item instead of asking the forest.

        Raises:
            ImageError: The image cannot be decoded or has the wrong shape.
            ModelMismatchError: The index was rebuilt with a model that the encoder does not have.
            ServerError: The encoder does not answer.
        """
        return self.search_batch([image], k, where=where, search_k=search_k, exact=exact)[0]

    def search_batch(
        self,
        images: list[ImageInput] | list[Path],
        k: int = 10,
        *,
        where: Where | None = None,
        search_k: int | None = None,
        exact: bool = False,
    ) -> list[list[Neighbour]]:
        """Return the `k` most similar images for each of `images`: all arrays of one shape, or all files."""
        if not len(images):
            return []
        for attempt in range(_HANDSHAKES):
            encoder, model = self._matched
            try:
                return self.index.search(
                    _encode(encoder, images),
                    k,
                    where=where,
                    search_k=search_k,
                    exact=exact,
                    fingerprint=model.fingerprint,
                )
            except (ModelMismatchError, ModelNotServedError):
                # The index has moved on to another model, or the server no longer has the version.
                if attempt == _HANDSHAKES - 1:
                    raise
                self._matched = self._shake_hands()
        raise AssertionError

    def _shake_hands(self) -> tuple[Encoder, ModelRef]:
        model = self.index.model
        return matching(self._given, model, self.index.path), model


def _encode(encoder: Encoder, images: list[ImageInput] | list[Path]) -> Latents:
    if isinstance(images[0], np.ndarray):
        return encoder.encode(np.stack(images))  # type: ignore[arg-type]
    return encoder.encode_files(images)  # type: ignore[arg-type]
