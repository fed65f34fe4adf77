"""Regions: an index may hold latents of parts of each image behind that of the whole.

They find copies of parts. A search for what merely resembles the query looks only at the latents of whole images:
each part is another chance to be near by accident.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ae_search.contract import Fit, Index, IndexWriter, ModelCard
from ae_search.errors import ConfigurationError
from ae_search.image_file import region_pixels

# What an index that has them is marked with, so that whatever is added later gets them too.
_NAME = "regions"
_MARK = {"format": 3, "of": "nine parts of 60 % of each side, and nine of 70 %"}


@dataclass(frozen=True)
class Regions:
    """How regions are cut for a model.

    Attributes:
        image_shape: Height and width in px, channels, as the model takes images.
        fit: How it brings other shapes to its own.
        version: That of its preprocessing.
    """

    image_shape: tuple[int, int, int]
    fit: Fit
    version: int

    @classmethod
    def of(cls, card: ModelCard) -> Self:
        """Return those of a model."""
        return cls(card.image_shape, card.fit, card.preprocessing_version)

    def cut(self, image: bytes | npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
        """Return the regions of an image, uint8 `[18, h, w, c]`; see `image_file.region_pixels`."""
        return region_pixels(image, name, self.image_shape, fit=self.fit, version=self.version)


def has_regions(index: Index) -> bool:
    """Tell whether an index holds latents of regions, behind the first of each item."""
    return _NAME in index.calibration()


def regions_of(index: Index, card: ModelCard) -> Regions | None:
    """Return how to cut the regions of images for an index, None where it has none.

    Raises:
        ConfigurationError: A newer release made them in another way.
    """
    mark = index.calibration().get(_NAME)
    if mark is None:
        return None
    if mark.get("format") != _MARK["format"]:
        raise ConfigurationError(
            f"{index.place} holds regions of format {str(mark.get('format'))[:60]!r}, this ae-search cuts those of "
            f"format {_MARK['format']}; upgrade it, or build the index anew with --replace."
        )
    return Regions.of(card)


def mark(writer: IndexWriter, regions: Regions | None) -> None:
    """Let an index that is being written know that it has regions."""
    if regions is not None:
        writer.calibrate(_NAME, _MARK)
