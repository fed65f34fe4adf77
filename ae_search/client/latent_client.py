"""Latents over gRPC."""

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
import numpy.typing as npt

from ae_search.client import wire
from ae_search.client.chunks import file_chunks, row_chunks
from ae_search.client.rpc_errors import from_rpc
from ae_search.contract import (
    DEFAULT_MODEL_NAME,
    IMAGE_BYTES,
    IMAGES,
    LATENTS,
    MODEL_CARD,
    SIGNATURE_BYTES,
    SIGNATURE_DESCRIBE,
    FileInputs,
    Latents,
    ModelCard,
    OnBad,
    image_batch,
)
from ae_search.errors import ConfigurationError, ImageError, ModelNotServedError, ServerAnswerError

MAX_MESSAGE_BYTES = 64 * 2**20
# HOST:PORT, or one of gRPC's name-resolution schemes (github.com/grpc/grpc, doc/naming.md).
TARGET = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}|(dns|ipv4|ipv6|unix|unix-abstract|xds):\S+")


# The card of the version that one call keeps to; asked for only when the call needs it.
Card = Callable[[], ModelCard]


@dataclass(frozen=True)
class VersionStatus:
    """One version of a model on the server: its number, its state (AVAILABLE, LOADING, …) and its error, if any."""

    version: int
    state: str
    error: str = ""


class LatentClient:
    """Fetches latents from TensorFlow Serving, or from the embedded model server, over one gRPC channel.

    Safe to use from several threads.

    Args:
        target: "HOST:PORT" or a gRPC target such as "dns:///serving:8500".
        model: Name that the server serves the model under.
        version: Version to pin; None for the newest.
        timeout_s: Seconds allowed for each request.
        max_in_flight: Requests of one call that are under way at once.

    Raises:
        ConfigurationError: `target` is no gRPC target.

    Example:
        with LatentClient("127.0.0.1:8500", model="fashion") as client:
            latents = client.encode_files(["photo.jpg"])
    """

    def __init__(
        self,
        target: str,
        model: str = DEFAULT_MODEL_NAME,
        *,
        version: int | None = None,
        timeout_s: float = 30.0,
        max_in_flight: int = 4,
    ) -> None:
        if not TARGET.fullmatch(target):
            raise ConfigurationError(f"The server must be HOST:PORT, for example 127.0.0.1:8500. Received: {target!r}.")
        self.target, self.model, self.version = target, model, version
        self.timeout_s, self.max_in_flight = timeout_s, max_in_flight
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
        if re.match(r"127\.|localhost:|\[::1\]", target):
            options.append(("grpc.enable_http_proxy", 0))  # a company's proxy cannot reach our loopback
        self._channel = grpc.insecure_channel(target, options=options)
        self._open_calls()
        self._card: ModelCard | None = None

    def _open_calls(self) -> None:
        self._predict = self._channel.unary_unary(
            wire.PREDICT,
            request_serializer=wire.PredictRequest.SerializeToString,
            response_deserializer=wire.PredictResponse.FromString,
        )
        self._get_status = self._channel.unary_unary(
            wire.GET_MODEL_STATUS,
            request_serializer=wire.GetModelStatusRequest.SerializeToString,
            response_deserializer=wire.GetModelStatusResponse.FromString,
        )

    def close(self) -> None:
        """Close the channel; clients made by `at_version` share it."""
        self._channel.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel."""
        self.close()

    def at_version(self, version: int) -> Self:
        """Return a client of the same server, on the same channel, that asks for one version only."""
        pinned = object.__new__(type(self))
        pinned.__dict__.update(self.__dict__)
        pinned.version, pinned._card = version, None
        return pinned

    def describe(self) -> ModelCard:
        """Return the model card, its version the one that answered.

        Raises:
            ServerError: The server cannot be reached, does not serve the model, or answers nonsense.
        """
        response = self._answer(self._start(SIGNATURE_DESCRIBE, {}, self.version))
        if MODEL_CARD not in response.outputs:
            raise ServerAnswerError(
                f"{self.target} answered without {MODEL_CARD!r}; was the model exported by ae-search?"
            )
        card = ModelCard.from_json(wire.to_bytes(response.outputs[MODEL_CARD]))
        card = card.with_version(response.model_spec.version.value or card.version)
        if self.version not in (None, card.version):
            raise ServerAnswerError(
                f"{self.target} was asked for version {self.version}, version {card.version} answered."
            )
        self._card = card
        return card

    def status(self) -> list[VersionStatus]:
        """Return the state of every version of the model that the server knows, as it lists them.

        Raises:
            ServerError: The server cannot be reached or does not know the model.
        """
        request = wire.GetModelStatusRequest()
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        response = self._answer(self._get_status.future(request, timeout=self.timeout_s))
        return [
            VersionStatus(
                one.version,
                wire.ModelState.values_by_number[one.state].name
                if one.state in wire.ModelState.values_by_number
                else "",
                one.status.error_message,
            )
            for one in response.model_version_status
        ]

    def encode(self, images: npt.ArrayLike) -> Latents:
        """Return latents `[n, d]` float32, in order.

        Args:
            images: uint8 in [0, 255] or floats in [0, 1], `[n, h, w, c]` of the model's shape, or one `[h, w, c]`.

        Raises:
            ImageError: Shape, dtype or values do not fit the model.
            ServerError: The server cannot be reached, is too slow, lacks the model, or answers nonsense.
        """
        return self._at_one_version(lambda card: self._encode_images(images, card))

    def _encode_images(self, images: npt.ArrayLike, card: Card) -> Latents:
        signature, array = image_batch(images, card().image_shape)
        return self._encode_pinned(row_chunks(array), signature, IMAGES, card)

    def encode_files(self, files: FileInputs, *, on_bad: OnBad | None = None) -> Latents:
        """Return latents `[n, d]` float32 of image files, in order.

        Args:
            files: Paths, or the bytes of JPEG, PNG, GIF, BMP or WebP files.
            on_bad: Called with position and error of each file that cannot be decoded; its row is left out.

        Raises:
            ImageError: A file cannot be decoded and there is no `on_bad`.
            ServerError: As for `encode`.
        """
        return self._at_one_version(lambda card: self._encode_all_files(files, on_bad, card))

    def _encode_all_files(self, files: FileInputs, on_bad: OnBad | None, card: Card) -> Latents:
        names = [f"image {at}" if isinstance(file, bytes) else str(file) for at, file in enumerate(files)]
        bad: dict[int, ImageError] = {}
        rows: dict[int, npt.NDArray[np.float32]] = {}
        for chunk in file_chunks(files, names, None if on_bad is None else bad):
            self._encode_file_chunk(chunk, names, rows, bad, card)
            if bad and on_bad is None:
                raise bad[min(bad)]
        ordered = [rows[position] for position in sorted(rows)]
        latents = np.stack(ordered) if rows else np.zeros((0, card().latent_dim), np.float32)
        # Last, because the call may yet start anew and would tell everything twice.
        if on_bad is not None:
            for position in sorted(bad):
                on_bad(position, bad[position])
        return latents

    def _encode_file_chunk(
        self,
        chunk: list[tuple[int, bytes]],
        names: list[str],
        rows: dict[int, npt.NDArray[np.float32]],
        bad: dict[int, ImageError],
        card: Card,
    ) -> None:
        """Encode a chunk; one undecodable image fails it whole, so halve it until the bad ones stand alone."""
        try:
            latents = self._encode_pinned([[data for _, data in chunk]], SIGNATURE_BYTES, IMAGE_BYTES, card)
        except ImageError as error:
            if len(chunk) == 1:
                position = chunk[0][0]
                bad[position] = ImageError(f"{names[position]}: {error}")
                return
            middle = len(chunk) // 2
            self._encode_file_chunk(chunk[:middle], names, rows, bad, card)
            self._encode_file_chunk(chunk[middle:], names, rows, bad, card)
            return
        for (position, _), latent in zip(chunk, latents, strict=True):
            rows[position] = latent

    def _known_card(self) -> ModelCard:
        return self._card or self.describe()

    def _at_one_version(self, run: Callable[[Card], Latents]) -> Latents:
        """Run a whole call against one version; run it anew, once, if that version is rolled over meanwhile."""
        try:
            return run(cache(self._known_card))
        except ModelNotServedError:
            if self.version is not None:
                raise
        # From the beginning: the latents of two versions must never stand in one array.
        return run(cache(self.describe))

    def _encode_pinned(
        self, chunks: Sequence[npt.NDArray[Any] | list[bytes]], signature: str, key: str, card: Card
    ) -> Latents:
        """Send chunks, a bounded number in flight, all to the card's version."""
        parts: list[Latents] = []
        in_flight: deque[tuple[Any, int]] = deque()

        def take() -> None:
            call, rows = in_flight.popleft()
            parts.append(self._latents(self._answer(call), card(), rows))

        try:
            for chunk in chunks:
                in_flight.append((self._start(signature, {key: wire.to_tensor(chunk)}, card().version), len(chunk)))
                if len(in_flight) >= self.max_in_flight:
                    take()
            while in_flight:
                take()
        finally:
            for call, _ in in_flight:
                call.cancel()
        return np.concatenate(parts) if parts else np.zeros((0, card().latent_dim), np.float32)

    def _start(self, signature: str, inputs: dict[str, Any], version: int | None) -> Any:
        request = wire.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        for name, tensor in inputs.items():
            request.inputs[name].CopyFrom(tensor)
        return self._predict.future(request, timeout=self.timeout_s)

    def _answer(self, call: Any) -> Any:
        try:
            return call.result()
        except grpc.RpcError as error:
            asked = self.model if self.version is None else f"{self.model} version {self.version}"
            raise from_rpc(error, target=self.target, model=asked, timeout_s=self.timeout_s) from error
        except grpc.FutureCancelledError as error:
            raise ServerAnswerError(f"The call to {self.target} was cancelled; is the client closed?") from error

    def _latents(self, response: Any, card: ModelCard, rows: int) -> Latents:
        """Check one answer and return its latents `[rows, d]`."""
        if LATENTS not in response.outputs:
            raise ServerAnswerError(f"{self.target} answered without {LATENTS!r}; was the model exported by ae-search?")
        answered = response.model_spec.version.value
        if answered != card.version:
            raise ServerAnswerError(f"{self.target} was asked for version {card.version}, version {answered} answered.")
        latents = wire.to_floats(response.outputs[LATENTS])
        if latents.shape != (rows, card.latent_dim):
            raise ServerAnswerError(
                f"{self.target}: expected latents of shape {[rows, card.latent_dim]}, received {list(latents.shape)}."
            )
        if not np.isfinite(latents).all():
            raise ServerAnswerError(f"{self.target}: expected finite latents, received NaN or infinity.")
        return latents
