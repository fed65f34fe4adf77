"""What turns images into latents, and the check that a batch of images passes first."""

from os import PathLike
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from ae_search.contract.card import ModelCard
from ae_search.contract.wire import SIGNATURE_FLOAT, SIGNATURE_UINT8
from ae_search.errors import ConfigurationError, ImageError

Latents = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Something that turns images into latents: `client.LatentClient` or `model_server.LocalEncoder`.

    The latents of one call are finite, in order, and all of one version. An encoder can be pickled and copied; what
    arrives asks the same model in the same way.
    """

    def encode(self, images: npt.ArrayLike) -> Latents:
        """Return the latents of images, float32 `[n, d]`.

        Args:
            images: uint8 in [0, 255] or floats in [0, 1]: `[n, h, w, c]` of the model's shape, n from 0, or one image
                `[h, w, c]`. With one channel, the last axis may be missing.

        Raises:
            ImageError: Shape, dtype or values do not fit the model.
            ServerError: The model does not answer, or answers nonsense.
        """

    def encode_files(self, files: "FileInputs", *, on_bad: "OnBad | None" = None) -> Latents:
        """Return the latents of image files, float32 `[n, d]`, one for each good file.

        Args:
            files: Paths, or the bytes of files, or both.
            on_bad: Called with the position and the error of each bad file, in order; its row is left out. Without it
                the first bad file ends the call.

        Raises:
            ImageError: A file is bad and there is no `on_bad`.
            ServerError: As for `encode`.
            TypeError: `files` is one file and no list, or holds something else.
        """

    def decode(self, latents: npt.ArrayLike) -> "Pictures":
        """Return what the model's decoder makes of latents, float32 `[n, h, w, c]` in [0, 1].

        Args:
            latents: Float32 `[n, d]` of this very model, n from 0, or one latent `[d]`.

        Raises:
            ConfigurationError: The model was exported without a decoder.
            ServerError: The model does not answer, or answers nonsense.
            ValueError: The latents do not fit, or are not finite.
        """

    def describe(self) -> ModelCard:
        """Return the model card, its version the one that answered.

        Raises:
            ServerError: The model does not answer, or what answers is no encoder.
        """

    def at_version(self, version: int) -> Self:
        """Return the same encoder pinned to a version.

        Raises:
            ModelNotServedError: There is no such version, as far as that is known here; a client hears of it with its
                next call.
            TypeError: `version` is no whole number.
        """


class AsyncEncoder(Protocol):
    """An `Encoder` for asyncio: `client.AsyncLatentClient`. `at_version` asks nobody, so it is not awaited."""

    async def encode(self, images: npt.ArrayLike) -> Latents:
        """Return the latents `[n, d]` of `images` `[n, h, w, c]`."""

    async def encode_files(self, files: "FileInputs", *, on_bad: "OnBad | None" = None) -> Latents:
        """Return the latents `[n, d]` of image files, given as paths or as their bytes."""

    async def decode(self, latents: npt.ArrayLike) -> "Pictures":
        """Return what the model's decoder makes of latents `[n, d]`: `[n, h, w, c]` in [0, 1]."""

    async def describe(self) -> ModelCard:
        """Return the model card, its version the one that answered."""

    def at_version(self, version: int) -> Self:
        """Return the same encoder pinned to a version."""


class OnBad(Protocol):
    """Called with the position and the error of each file that is left out."""

    def __call__(self, position: int, error: ImageError, /) -> None:
        """Take note of a bad image."""


FileInputs = list[Path] | list[bytes] | list[Path | bytes] | list[str]
FileInput = Path | str | bytes


def file_batch(files: FileInputs) -> list[FileInput]:
    """Return image files as paths and bytes.

    Raises:
        TypeError: It is one file and no list, or holds something else.
    """
    if isinstance(files, str | bytes | bytearray | memoryview | PathLike):
        raise TypeError(f"files must be a list of paths or bytes. Received: {type(files).__name__}.")
    batch: list[FileInput] = []
    for file in files:
        if isinstance(file, bytearray | memoryview):
            file = bytes(file)
        elif not isinstance(file, bytes | str | Path):
            if not isinstance(file, PathLike):
                raise TypeError(f"Files must be paths or bytes. Received: {type(file).__name__}.")
            file = Path(file)
        batch.append(file)
    return batch


def checked_version(version: int) -> int:
    """Return a version.

    Raises:
        TypeError: It is no whole number.
    """
    if type(version) is not int:
        raise TypeError(f"A version is a whole number. Received: {version!r}.")
    return version


def image_batch(images: npt.ArrayLike, image_shape: tuple[int, int, int]) -> tuple[str, npt.NDArray[Any]]:
    """Check a batch of images and choose the signature it goes to.

    Args:
        images: uint8 in [0, 255] or floats in [0, 1], shape `[n, h, w, c]` or one image `[h, w, c]`;
            for one channel the last axis may be missing.
        image_shape: `(h, w, c)` of the model.

    Returns:
        The signature's name and the array, `[n, h, w, c]`, uint8 or float32.

    Raises:
        ImageError: Shape, dtype or values do not fit.
    """
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise ImageError(f"Images must be of one shape, {image_shape}. Received: {error}.") from error
    if array.shape == (0,):  # an empty list
        array = np.zeros((0, *image_shape), np.uint8)
    if array.shape[-2:] == image_shape[:2] and image_shape[2] == 1 and array.shape[-3:] != image_shape:
        array = array[..., np.newaxis]
    if array.shape == image_shape:
        array = array[np.newaxis]
    if array.ndim != 4 or array.shape[1:] != image_shape:
        raise ImageError(f"The model takes images of shape {('n', *image_shape)}. Received: shape={array.shape}.")
    if array.dtype == np.uint8:
        return SIGNATURE_UINT8, array
    if array.dtype.kind != "f":
        raise ImageError(f"Images must be uint8 or floats in [0, 1]. Received: dtype={array.dtype}.")
    # NaN fails both comparisons, so this also refuses non-finite values.
    if array.size and not (array.min() >= 0.0 and array.max() <= 1.0):
        raise ImageError(f"Float images must lie in [0, 1]. Received: values in [{array.min()}, {array.max()}].")
    return SIGNATURE_FLOAT, array.astype(np.float32, copy=False)


def latent_batch(latents: npt.ArrayLike, card: ModelCard) -> Latents:
    """Check latents that are to be decoded.

    Args:
        latents: Float32 `[n, d]`, or one latent `[d]`.
        card: Card of the model that is to decode them.

    Returns:
        Float32 `[n, d]`.

    Raises:
        ConfigurationError: The model was exported without a decoder.
        ValueError: They do not fit, or are not finite.
    """
    if not card.decodes:
        raise ConfigurationError(
            f"{card.name} version {card.version} was exported without a decoder, so that nothing shows what its "
            "latents stand for; `ae-search export RUN` exports the decoder of a run as well."
        )
    array = np.asarray(latents, np.float32)
    if array.shape == (0,):  # an empty list
        array = np.zeros((0, card.latent_dim), np.float32)
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or array.shape[1] != card.latent_dim:
        raise ValueError(f"The model decodes latents of shape [n, {card.latent_dim}]. Received: shape={array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("Latents must be finite. Received: NaN or infinity.")
    return array
