"""The exported encoder in this process, without a server."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import numpy.typing as npt

from ae_search.contract import (
    IMAGE_BYTES,
    IMAGES,
    LATENTS,
    MODEL_CARD,
    SIGNATURE_BYTES,
    SIGNATURE_DECODE,
    SIGNATURE_DESCRIBE,
    FileInput,
    FileInputs,
    Latents,
    ModelCard,
    OnBad,
    Pictures,
    checked_version,
    file_batch,
    image_batch,
    latent_batch,
)
from ae_search.errors import ImageError, ModelNotServedError, ServerAnswerError, ServerError
from ae_search.image_file import bytes_for_graph, decoder_words
from ae_search.model_server.refusal import RequestRefused
from ae_search.model_server.servable import Servable
from ae_search.version_folders import SAVED_MODEL, require_version_folders, version_folders

ROWS = 256
FILES = 64
# Bounds the memory of one chunk of large photographs.
CHUNK_BYTES = 64 * 2**20

_REFUSALS: dict[grpc.StatusCode, type[ImageError] | type[ModelNotServedError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: ImageError,
    grpc.StatusCode.FAILED_PRECONDITION: ModelNotServedError,
}
NamedFile = tuple[int, str, bytes]


class LocalEncoder:
    """Images to latents through an exported SavedModel; satisfies `contract.Encoder`.

    It can be pickled and copied, to its arguments: what arrives loads the same version from the same folder.

    Attributes:
        version: The version that was loaded.
    """

    def __init__(self, path: Path | str, *, trust: bool = False) -> None:
        """Load the encoder.

        Args:
            path: A base path, whose newest version is taken, or one version folder.
            trust: Load it whatever its program may do; a model that reaches files, the network, Python or the terminal
                is refused otherwise.

        Raises:
            ConfigurationError: There is no version.
            ExportError: The version cannot be loaded, or may do more than compute.
        """
        self._trust = trust
        self._base_path, self.version, self._folder = _locate(Path(path).absolute())
        self._servable = Servable.load(self._folder, self.version, trust=trust)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._folder, "trust": self._trust}

    def __setstate__(self, arguments: dict[str, Any]) -> None:
        LocalEncoder.__init__(self, **arguments)

    def encode(self, images: npt.ArrayLike) -> Latents:
        """Return the latents of images.

        Args:
            images: `[n, h, w, c]` uint8, or floats in [0, 1]; one image `[h, w, c]` is a batch of one.

        Returns:
            float32 `[n, d]`.

        Raises:
            ImageError: Shape, dtype or values do not fit.
        """
        signature, batch = image_batch(images, self._card.image_shape)
        chunks = (batch[start : start + ROWS] for start in range(0, len(batch), ROWS))
        return self._stack([self._latents(signature, {IMAGES: chunk}) for chunk in chunks])

    def encode_files(self, files: FileInputs, *, on_bad: OnBad | None = None) -> Latents:
        """Return the latents of image files.

        Args:
            files: Paths, or the bytes of files.
            on_bad: Called with the position and the error of each bad file, in order; its row is left out. Without it
                the first bad file ends the call.

        Returns:
            float32 `[n, d]`, one row for each good file, in order.

        Raises:
            ImageError: A file is bad and there is no `on_bad`.
            TypeError: `files` is one file and no list, or holds something else.
        """
        rows: list[Latents] = []
        bad: dict[int, ImageError] = {}

        def report() -> None:
            for position in sorted(bad):
                if on_bad is None:
                    raise bad[position]
                on_bad(position, bad[position])
            bad.clear()

        for chunk in _chunks(file_batch(files), bad.__setitem__):
            rows.append(self._encode_chunk(chunk, bad.__setitem__))
            report()
        report()
        return self._stack(rows)

    def decode(self, latents: npt.ArrayLike) -> Pictures:
        """Return what the model's decoder makes of latents.

        Args:
            latents: Float32 `[n, d]`, or one `[d]`.

        Returns:
            float32 `[n, h, w, c]` in [0, 1].

        Raises:
            ConfigurationError: The model was exported without a decoder.
            ServerAnswerError: What the decoder returns are no such images.
            ValueError: The latents do not fit, or are not finite.
        """
        batch, shape = latent_batch(latents, self._card), self._card.image_shape
        rows = max(1, min(ROWS, CHUNK_BYTES // (4 * math.prod(shape))))
        parts = [self._pictures(batch[start : start + rows], shape) for start in range(0, len(batch), rows)]
        return np.concatenate([np.zeros((0, *shape), np.float32), *parts])

    def describe(self) -> ModelCard:
        """Return the model card, its version the one that is loaded.

        Raises:
            ModelNotServedError: The model has no `describe` signature.
            ServerAnswerError: What that signature returns is no model card.
        """
        return self._card

    def at_version(self, version: int) -> Self:
        """Return the encoder of another version under the same base path.

        Raises:
            ModelNotServedError: There is no such version.
            TypeError: `version` is no whole number.
        """
        if checked_version(version) == self.version:
            return self
        found = version_folders(self._base_path)
        if version not in found:
            there = ", ".join(map(str, sorted(found))) or "none"
            raise ModelNotServedError(f"{self._base_path} has no version {version}; there: {there}.")
        return type(self)(found[version], trust=self._trust)

    @cached_property
    def _card(self) -> ModelCard:
        answer = self._run(SIGNATURE_DESCRIBE, {}).get(MODEL_CARD)
        if answer is None or answer.size != 1:
            raise ServerAnswerError(f"The {SIGNATURE_DESCRIBE!r} signature did not return one {MODEL_CARD!r}.")
        return ModelCard.from_json(answer.item()).with_version(self.version)

    def _run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        try:
            return self._servable.run(signature, inputs)
        except RequestRefused as refused:
            kind = _REFUSALS.get(refused.code, ServerError)
            words = decoder_words(refused.text) if kind is ImageError else None
            raise kind(
                f"The model refused it: {words}." if words else f"The model refused: {refused.text}"
            ) from refused

    def _latents(self, signature: str, inputs: Mapping[str, Any]) -> Latents:
        outputs = self._run(signature, inputs)
        if LATENTS not in outputs or outputs[LATENTS].ndim != 2:
            raise ServerAnswerError(f"The {signature!r} signature did not return {LATENTS!r} of shape (n, d).")
        latents = outputs[LATENTS].astype(np.float32, copy=False)
        if not np.isfinite(latents).all():
            raise ServerAnswerError(f"{self._base_path}: expected finite latents, received NaN or infinity.")
        return latents

    def _pictures(self, latents: Latents, image_shape: tuple[int, int, int]) -> Pictures:
        found = self._run(SIGNATURE_DECODE, {LATENTS: latents}).get(IMAGES)
        if found is None or found.shape != (len(latents), *image_shape):
            raise ServerAnswerError(f"The {SIGNATURE_DECODE!r} signature did not return {IMAGES!r} of {image_shape}.")
        if not (found.min() >= 0.0 and found.max() <= 1.0):  # NaN fails as well
            raise ServerAnswerError(f"{self._base_path}: expected images in [0, 1], received other values.")
        return found.astype(np.float32, copy=False)

    def _encode_chunk(self, chunk: list[NamedFile], note_bad: Callable[[int, ImageError], None]) -> Latents:
        """Encode files, by halves where one of them is bad, since the model does not say which."""
        try:
            return self._latents(SIGNATURE_BYTES, {IMAGE_BYTES: np.array([data for *_, data in chunk], object)})
        except ImageError as error:
            if len(chunk) == 1:
                position, name, _ = chunk[0]
                note_bad(position, ImageError(f"{name}: {error}"))
                return self._stack([])
            middle = len(chunk) // 2
            return self._stack([self._encode_chunk(half, note_bad) for half in (chunk[:middle], chunk[middle:])])

    def _stack(self, rows: list[Latents]) -> Latents:
        empty = np.zeros((0, self._card.latent_dim), np.float32)
        return np.concatenate([empty, *rows])


def _locate(path: Path) -> tuple[Path, int, Path]:
    """Return base path, version and version folder of what a caller named."""
    if path.name.isascii() and path.name.isdigit() and (path / SAVED_MODEL).is_file():
        return path.parent, int(path.name), path
    found = require_version_folders(path)
    newest = max(found)
    return path, newest, found[newest]


def _chunks(files: list[FileInput], note_bad: Callable[[int, ImageError], None]) -> Iterator[list[NamedFile]]:
    """Read and check files, by chunks of bounded count and size."""
    chunk: list[NamedFile] = []
    size = 0
    for position, file in enumerate(files):
        try:
            chunk.append((position, *_read(position, file)))
        except ImageError as error:
            note_bad(position, error)
            continue
        size += len(chunk[-1][2])
        if len(chunk) == FILES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _read(position: int, file: FileInput) -> tuple[str, bytes]:
    name = f"image {position}" if isinstance(file, bytes) else str(file)
    return name, bytes_for_graph(file, name)
