"""Why an item is similar to what was asked for, with pictures."""

import base64
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.errors import ConfigurationError
from ae_search.explaining import Explanation
from ae_search.image_file import pixels_to_png
from ae_search.web.asking import Asked
from ae_search.web.parameters import ExplainBody
from ae_search.web.problems import Problem
from ae_search.web.searching import missing
from ae_search.web.service import Service

# What the decoded images of one explanation may take; models of large images have fewer steps and parts.
MOST_DECODED_BYTES = 128 * 2**20


async def explanation(service: Service, asked: Asked, given: ExplainBody) -> dict[str, Any]:
    """Return the explanation.

    Raises:
        Problem: A key is not there, or the pictures would be too many for images of this size.
        ConfigurationError: The model has no decoder, or the examples cancel each other out.
        AeSearchError: Image, index or model server are not as they should be.
    """
    await service.search.encoder()
    if (card := service.search.card) is not None and card.decodes:
        _check_size(card.image_shape, given)
    try:
        async with service.explaining:  # each holds many pictures at once
            found = await service.search.explain(
                asked.file, given.item, like=asked.like, unlike=given.unlike, steps=given.steps, parts=given.parts
            )
    except ConfigurationError as error:
        raise await missing(service, [given.item, *asked.like, *given.unlike]) or error from error
    return await service.in_thread(_told, found)


def _check_size(shape: tuple[int, int, int], given: ExplainBody) -> None:
    pictures = 2 + given.steps + 2 * given.parts
    if 4 * prod(shape) * pictures > MOST_DECODED_BYTES:
        most = MOST_DECODED_BYTES // (4 * prod(shape))
        raise Problem(
            "BadRequest",
            f"steps and twice parts may make {max(0, most - 2)} pictures with this model. Received: {pictures - 2}.",
        )


def _told(found: Explanation) -> dict[str, Any]:
    return {
        "key": found.key,
        "similarity": found.similarity,
        "query": _png(found.query),
        "item": _png(found.item),
        "agreement": _png((found.agreement[..., np.newaxis] + 1) / 2),
        "parts": [
            {
                "dimension": part.dimension,
                "contribution": part.contribution,
                "where": _png(part.where[..., np.newaxis]),
            }
            for part in found.parts
        ],
        "rest": found.rest,
        "walk": [_png(picture) for picture in found.walk],
    }


def _png(values: npt.NDArray[Any]) -> str:
    """Return `[h, w, c]` in [0, 1] as a PNG file in base64."""
    return base64.b64encode(pixels_to_png(np.rint(255 * values).astype(np.uint8))).decode("ascii")
