"""The conversation that turns latents back into images."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from ae_search.client.chunks import ChunkLimits
from ae_search.client.requests import good, pictures_of, predict_array
from ae_search.client.rpc_errors import Asked, BatchTooLargeError
from ae_search.client.steps import Ask, Conversation, Work
from ae_search.contract import LATENTS, SIGNATURE_DECODE, ModelCard, latent_batch
from ae_search.errors import ImageError, ServerAnswerError

# An answer is bounded as requests are: images in full precision are much larger than their latents.
MAX_PICTURE_BYTES = 4 * 2**20


def decode(latents: npt.ArrayLike, card: ModelCard, asked: Asked, limits: ChunkLimits) -> Conversation:
    """Ask for the images of latents, a bounded number at a time; end with them, `[n, h, w, c]`, in order.

    Raises:
        ConfigurationError: The model has no decoder.
        ValueError: The latents do not fit, or are not finite.
    """
    batch = latent_batch(latents, card)
    asked = replace(asked, sent=LATENTS)
    most = max(1, MAX_PICTURE_BYTES // (4 * math.prod(card.image_shape)))
    parts = [np.zeros((0, *card.image_shape), np.float32)]
    start = 0
    while start < len(batch):
        rows = batch[start : start + min(most, limits.rows)]
        outcome = yield Ask(predict_array(asked, SIGNATURE_DECODE, LATENTS, rows))
        if isinstance(outcome, BatchTooLargeError) and len(rows) > 1:
            limits.lower(outcome.limit or limits.rows)
            most = min(outcome.limit or len(rows), len(rows) - 1, max(1, len(rows) // 2))
            continue
        if isinstance(outcome, ImageError):  # the latents fit the model card
            raise ServerAnswerError(str(outcome)) from outcome.__cause__
        parts.append((yield Work(partial(pictures_of, good(outcome), card, asked, len(rows)))))
        start += len(rows)
    return np.concatenate(parts)
