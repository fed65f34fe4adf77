"""`tf.data` over a source: parallel decode, seeded shuffle, batch, prefetch, optional cache."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf

from ae_search.data.decode import decode_image, resize_image
from ae_search.data.sources import ArraySource, FolderSource, Source
from ae_search.errors import ConfigurationError, ImageError
from ae_search.image_file import read_image_file, thumbnail

log = logging.getLogger(__name__)

Cache = Literal["auto", "memory", "none"]
CACHES: tuple[Cache, ...] = get_args(Cache)
AUTO_CACHE_BYTES = 2**30
SHUFFLE_BUFFER = 10_000
SHUFFLE_BUFFER_BYTES = 2**28

Dataset = Any


@dataclass(frozen=True)
class Images:
    """The readable images of a source, as the model takes them.

    Attributes:
        source: Where they come from.
        image_shape: `(h, w, c)`.
        positions: Positions in the source, without the damaged ones.
        damaged: What was left out: key and reason.
    """

    source: Source
    image_shape: tuple[int, int, int]
    positions: np.ndarray[Any, np.dtype[np.int64]]
    damaged: dict[str, str]

    def __len__(self) -> int:
        """Return the number of readable images."""
        return len(self.positions)

    def dataset(self, positions: np.ndarray[Any, Any]) -> Dataset:
        """Return a dataset of float32 images `[h, w, c]` in [0, 1] at these positions, in their order."""
        return _decoded(self.source, positions, self.image_shape).map(lambda _, image: image)


def readable_images(source: Source, image_shape: tuple[int, int, int]) -> Images:
    """Read every image of a folder once and leave out the damaged ones, each reported by name.

    Raises:
        ConfigurationError: None can be read.
    """
    positions = np.arange(len(source), dtype=np.int64)
    damaged: dict[str, str] = {}
    if isinstance(source, FolderSource):
        decoded = _decoded(source, positions, image_shape).map(lambda position, _: position)
        good = np.fromiter(decoded.as_numpy_iterator(), np.int64)
        for position in np.setdiff1d(positions, good):
            damaged[source.key(position)] = _reason(source, int(position))
            log.warning("left out %s: %s", source.key(position), damaged[source.key(position)])
        positions = np.sort(good)
    if not len(positions):
        raise ConfigurationError(f"None of the {len(source)} images of {source.name} can be read.")
    return Images(source, image_shape, positions, damaged)


def training_dataset(
    images: Images, positions: np.ndarray[Any, Any], batch_size: int, *, seed: int, cache: Cache
) -> Dataset:
    """Return shuffled batches of `(image, image)`, the second being what the autoencoder has to reconstruct.

    Args:
        images: The readable images.
        positions: Which of them, for example without those held out.
        batch_size: Images a batch; the last one may be smaller.
        seed: Seed of the shuffle, which differs from epoch to epoch.
        cache: Keep decoded images in memory: always, never, or ("auto") when they take at most 1 GiB.
    """
    image_bytes = 4 * int(np.prod(images.image_shape))
    if isinstance(images.source, ArraySource):
        # The whole set lies in memory: a permutation of positions is the perfect shuffle, and cheap.
        dataset = tf.data.Dataset.from_tensor_slices(positions)
        dataset = dataset.shuffle(len(positions), seed=seed, reshuffle_each_iteration=True).batch(batch_size)
        array = tf.constant(images.source.images)
        dataset = dataset.map(lambda at: _scale(tf.gather(array, at), images.image_shape), tf.data.AUTOTUNE)
    else:
        # Files are sorted by class: shuffle their names over the whole set before anything is decoded.
        order = np.random.default_rng(seed).permutation(positions)
        dataset = images.dataset(order)
        if cache == "memory" or (cache == "auto" and len(positions) * image_bytes <= AUTO_CACHE_BYTES):
            dataset = dataset.cache()
        buffer = max(batch_size, min(SHUFFLE_BUFFER, SHUFFLE_BUFFER_BYTES // image_bytes))
        dataset = dataset.shuffle(buffer, seed=seed, reshuffle_each_iteration=True).batch(batch_size)
    return dataset.map(lambda image: (image, image)).prefetch(tf.data.AUTOTUNE)


def evaluation_dataset(images: Images, positions: np.ndarray[Any, Any], batch_size: int) -> Dataset:
    """Return batches of `(image, image)` in the order of `positions`."""
    dataset = images.dataset(positions).batch(batch_size)
    return dataset.map(lambda image: (image, image)).prefetch(tf.data.AUTOTUNE)


def first_images(source: Source, image_shape: tuple[int, int, int], count: int) -> Any:
    """Return up to `count` readable images, spread evenly over the source, as float32 `[n, h, w, c]` in [0, 1]."""
    positions = np.unique(np.linspace(0, len(source) - 1, 2 * count).astype(np.int64))
    rows = _decoded(source, positions, image_shape).map(lambda _, image: image).take(2 * count)
    return np.stack(list(rows.as_numpy_iterator()))[::2][:count]


def _scale(batch: Any, image_shape: tuple[int, int, int]) -> Any:
    """Turn uint8 `[n, h, w, c]` into float32 of the model's shape."""
    if tuple(batch.shape[1:]) == image_shape:
        return tf.cast(batch, tf.float32) / 255.0
    spec = tf.TensorSpec(image_shape, tf.float32)
    return tf.map_fn(lambda pixels: resize_image(pixels, image_shape), batch, fn_output_signature=spec)


def _decoded(source: Source, positions: np.ndarray[Any, Any], image_shape: tuple[int, int, int]) -> Dataset:
    """Return `(position, float32 image)`; images that cannot be decoded are missing."""
    at = tf.data.Dataset.from_tensor_slices(np.asarray(positions, np.int64))
    if isinstance(source, ArraySource):
        array = tf.constant(source.images)
        return at.map(lambda i: (i, _scale(tf.gather(array, [i]), image_shape)[0]), tf.data.AUTOTUNE)
    paths = tf.data.Dataset.from_tensor_slices([str(source.path(int(i))) for i in positions])
    dataset = tf.data.Dataset.zip(at, paths)

    def decode(position: Any, path: Any) -> Any:
        return position, decode_image(tf.io.read_file(path), image_shape)

    return dataset.map(decode, tf.data.AUTOTUNE, deterministic=True).ignore_errors(log_warning=False)


def _reason(source: FolderSource, position: int) -> str:
    """Say why one image could not be decoded."""
    path: Path = source.path(position)
    try:
        thumbnail(read_image_file(path), str(path))
    except ImageError as error:
        return str(error)
    try:
        decode_image(tf.io.read_file(str(path)), (8, 8, 3))
    except tf.errors.OpError as error:
        return f"{path}: {error.message.splitlines()[0]}"
    return f"{path}: cannot be decoded"
