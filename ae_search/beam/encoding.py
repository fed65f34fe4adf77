"""`EncodeImages`: latents from TensorFlow Serving, all of one model, whatever becomes of a server meanwhile."""

import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RemoteModelHandler, RunInference

from ae_search.beam.batches import encode_batch
from ae_search.beam.elements import EncodedImage, Image
from ae_search.beam.reading import NAMESPACE
from ae_search.client import LatentClient
from ae_search.contract import ModelCard, ModelRef
from ae_search.errors import ModelMismatchError, ServerTimeoutError, ServerUnavailableError
from ae_search.handshake import with_fingerprint
from ae_search.plan import carry_out

BATCH_IMAGES = 512
# Files of a batch are in memory together, of the threads of a worker each.
_BATCH_BYTES = 128 * 2**20
_THROTTLE_S = 1
_WINDOW_MS, _BUCKET_MS = 60_000, 1000


class _Line:
    """The client of one worker process: its calls take turns, so that as many requests are under way as it allows."""

    def __init__(self, client: LatentClient) -> None:
        self.client, self.turn = client, threading.Lock()
        self.told_s = 0.0


class TFServingModelHandler(RemoteModelHandler[Image, EncodedImage, _Line]):
    """Asks TensorFlow Serving for the latents of batches of `Image`, for `RunInference`.

    The model is the one that answers now, by its fingerprint: each worker finds it before its first batch and looks
    again after each one, and a batch that another model may have answered is none. A worker process has at most as
    many requests under way as the client's `max_in_flight`, whatever its number of threads.

    A request that a server has no room for is sent again by the client until its time is up, then the batch by Beam, at
    ever longer intervals; the counter cumulativeThrottlingSeconds says for how long, so that a runner which scales
    itself does not add workers then. A server that is away is waited for in the same way. Other errors end the bundle.

    Args:
        client: Whom to ask, and how patiently. It travels with the job, and what `Access` was given as text with it: on
            a cluster, name a token by its file, which each worker has.
        strict: Whether JPEG files that are cut short count as damaged.
        batch_images: Images to a batch, from 1 to 512.
        retries: How often Beam sends a batch again, the first time after some five seconds, then after twice as many.

    Attributes:
        model: Card of the model.

    Raises:
        ServerError: The server does not answer.
    """

    def __init__(
        self, client: LatentClient, *, strict: bool = False, batch_images: int = BATCH_IMAGES, retries: int = 5
    ) -> None:
        if not 1 <= batch_images <= BATCH_IMAGES:
            raise ValueError(f"batch_images must be from 1 to {BATCH_IMAGES}. Received: {batch_images}.")
        super().__init__(
            NAMESPACE,
            num_retries=retries,
            throttle_delay_secs=_THROTTLE_S,
            retry_filter=_may_pass,
            window_ms=_WINDOW_MS,
            bucket_ms=_BUCKET_MS,
        )
        self.model: ModelCard = client.describe()
        self._client, self._strict, self._batch_images = client, strict, batch_images

    def create_client(self) -> _Line:
        """Return a client of the model's version.

        Raises:
            ModelMismatchError: The server does not have the model of the job.
            ServerError: It does not answer.
        """
        wanted = ModelRef(self.model.name, self.model.version, self.model.fingerprint)
        pinned, card = carry_out(with_fingerprint(self._client, wanted))
        if pinned is None:
            raise _other_model(self.model, card)
        return _Line(pinned)

    def request(
        self, batch: Sequence[Image], model: _Line, inference_args: dict[str, Any] | None = None
    ) -> list[EncodedImage]:
        """Return what becomes of each image of a batch, in order.

        Raises:
            ModelMismatchError: Another model has taken the place of the job's.
            ServerError: The server does not answer, or has the version no more.
        """
        began = time.monotonic()
        with model.turn:
            try:
                encoded = encode_batch(batch, model.client, self.model.image_shape, strict=self._strict)
                card = model.client.describe()
            finally:
                self._tell_overload(model, time.monotonic() - began)
        if card.fingerprint != self.model.fingerprint:
            raise _other_model(self.model, card)
        return encoded

    def _tell_overload(self, model: _Line, within_s: float) -> None:
        """Count the whole seconds that were waited for room; requests beside each other wait at the same time."""
        waited_s = min(model.client.line.overload_s - model.told_s, within_s)
        if waited_s >= 1:
            self.throttler.throttling_signaler.signal_throttled(int(waited_s))
            model.told_s = model.client.line.overload_s

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """Return how many images make a batch, fewer where they are large."""
        unit = _BATCH_BYTES // self._batch_images
        return {
            "min_batch_size": self._batch_images,
            "max_batch_size": self._batch_images,
            "element_size_fn": partial(_weight, unit, self._batch_images),
        }

    def get_num_bytes(self, batch: Sequence[Image]) -> int:
        """Return the bytes of a batch's images."""
        return sum(map(_size, batch))

    def get_metrics_namespace(self) -> str:
        """Return where the metrics of a step are found."""
        return NAMESPACE


class EncodeImages(beam.PTransform):
    """Encode images: `images | EncodeImages(client)` is a PCollection of `EncodedImage`, one for each `Image`.

    Images that were left out are among them, with the reason. Arguments and errors as for `TFServingModelHandler`.

    Attributes:
        model: Card of the model.
    """

    def __init__(
        self, client: LatentClient, *, strict: bool = False, batch_images: int = BATCH_IMAGES, retries: int = 5
    ) -> None:
        super().__init__()
        self._handler = TFServingModelHandler(client, strict=strict, batch_images=batch_images, retries=retries)
        self.model = self._handler.model

    def expand(self, images: Any) -> Any:
        """Return what becomes of the images."""
        return images | "Encode" >> RunInference(self._handler).with_output_types(EncodedImage)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, ServerUnavailableError | ServerTimeoutError)


def _other_model(wanted: ModelCard, card: ModelCard) -> ModelMismatchError:
    return ModelMismatchError(
        f"The job was begun with {wanted.name} version {wanted.version} (fingerprint {wanted.fingerprint[:12]}), but "
        f"{card.name} version {card.version} (fingerprint {card.fingerprint[:12]}) answered; keep that version served "
        "until the job is done, or begin it anew."
    )


def _weight(unit: int, most: int, image: Image) -> int:
    """Return for how many small images one counts."""
    return min(most, 1 + _size(image) // unit)


def _size(image: Image) -> int:
    data = image.data
    return 0 if data is None else len(data) if isinstance(data, bytes) else data.nbytes
