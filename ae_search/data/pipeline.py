"""`tf.data` over a source: parallel decode, seeded shuffle, batches, images kept in memory where they fit."""

import logging
import math
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ae_search.contract import Fit
from ae_search.data.converting import ends_whole, for_graph_in_graph
from ae_search.data.decode import decode_image, resize_image
from ae_search.data.sources import ArraySource, FolderSource, Source, read_file, read_files
from ae_search.errors import ConfigurationError, ImageError
from ae_search.image_file import MAX_FILE_MIB, TRUNCATED, for_graph, thumbnail, truncated

log = logging.getLogger(__name__)

Cache = Literal["auto", "memory", "none"]
CACHES: tuple[Cache, ...] = get_args(Cache)
AUTO_CACHE_BYTES = 2**30
SHUFFLE_BUFFER = 10_000
LARGEST_BATCH_FLOATS = 2**24
SHUFFLE_BUFFER_BYTES = 2**28


Dataset = Any
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """The readable images of a source, as the model takes them.

    Attributes:
        source: Where they come from.
        image_shape: `(h, w, c)`.
        positions: Positions in the source, without the damaged ones.
        damaged: What was left out: key and reason.
        pixels: uint8 `[len(source), h, w, c]`, decoded and in memory; None where they are decoded anew for each epoch.
        fit: How images of another aspect ratio are brought to the shape.
        truncated: Keys of JPEG files that are cut short; the part that is there is taken.
    """

    source: Source
    image_shape: tuple[int, int, int]
    positions: Positions
    damaged: dict[str, str]
    pixels: npt.NDArray[np.uint8] | None
    fit: Fit = "crop"
    truncated: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of readable images."""
        return len(self.positions)

    def batches(self, positions: Positions, batch_size: int) -> Dataset:
        """Return batches `(positions [n], images [n, h, w, c] float32 in [0, 1])` in the order of `positions`."""
        if self.pixels is None:
            return _images(self.source, positions, self.image_shape, self.fit).batch(batch_size)
        return self._resident(tf.data.Dataset.from_tensor_slices(positions).batch(batch_size))

    def encoded(self, encoder: Any, positions: Positions) -> npt.NDArray[np.float32]:
        """Return what a Keras encoder makes of the images at some positions, in their order: `[n, d]`."""
        rows = [
            encoder.predict_on_batch(images) for _, images in self.batches(positions, images_at_once(self.image_shape))
        ]
        return np.concatenate(rows)

    def shuffled(self, positions: Positions, batch_size: int, *, seed: int) -> Dataset:
        """Return the same without end, in another order in each pass.

        Every batch is full: where a pass ends within one, the next pass begins.

        Args:
            positions: Which images, for example without those held out.
            batch_size: Images a batch.
            seed: Seed of the orders.
        """
        if self.pixels is not None:
            # A permutation of positions is the perfect shuffle, and cheap.
            at = tf.data.Dataset.from_tensor_slices(positions)
            at = at.shuffle(len(positions), seed=seed, reshuffle_each_iteration=True)
            return self._resident(at.repeat().batch(batch_size))
        # Files are sorted by class: shuffle their names over the whole set before anything is decoded.
        order = np.random.default_rng(seed).permutation(positions)
        buffer = max(batch_size, min(SHUFFLE_BUFFER, SHUFFLE_BUFFER_BYTES // (4 * math.prod(self.image_shape))))
        dataset = _images(self.source, order, self.image_shape, self.fit)
        return dataset.shuffle(buffer, seed=seed, reshuffle_each_iteration=True).repeat().batch(batch_size)

    @cached_property
    def tensor(self) -> Any:
        """The pixels as one tensor: made outside of any graph, which would copy it into itself."""
        with tf.device("/CPU:0"):
            return tf.constant(self.pixels)

    def _resident(self, batches: Dataset) -> Dataset:
        pixels = self.tensor
        return batches.map(lambda at: (at, tf.cast(tf.gather(pixels, at), tf.float32) / 255.0), tf.data.AUTOTUNE)


def images_at_once(image_shape: tuple[int, int, int]) -> int:
    """Return how many images to handle together: 256, fewer where they would take more than 64 MiB, at least 8."""
    return max(8, min(256, LARGEST_BATCH_FLOATS // max(1, math.prod(image_shape))))


def kept_in_memory(source: Source, image_shape: tuple[int, int, int], cache: Cache) -> bool:
    """Return whether `readable_images` keeps the images: "auto" does when they take at most 1 GiB."""
    if isinstance(source, ArraySource) and source.image_shape == image_shape:
        return True
    return cache == "memory" or (cache == "auto" and len(source) * math.prod(image_shape) <= AUTO_CACHE_BYTES)


def readable_images(
    source: Source,
    image_shape: tuple[int, int, int],
    *,
    cache: Cache = "none",
    fit: Fit = "crop",
    strict: bool = False,
) -> Images:
    """Read every image of a source once and leave out the damaged ones, each reported by name.

    Args:
        source: The images.
        image_shape: `(h, w, c)` to bring them to.
        cache: Keep the decoded images in memory, a byte a value: "memory", "none", or "auto" when they take at most
            1 GiB.
        fit: "crop" or "pad": how images of another aspect ratio are brought to the shape.
        strict: Whether JPEG files that are cut short count as damaged.

    Raises:
        ConfigurationError: None can be read, or the source can only be read in its order and the cache does not take
            the images.
    """
    if isinstance(source, ArraySource) and source.image_shape == image_shape:
        return Images(source, image_shape, np.arange(len(source)), {}, source.images)
    keep = kept_in_memory(source, image_shape, cache)
    if not keep and not source.any_order:
        raise ConfigurationError(
            f"{source.name} can only be read in its order, and training shuffles: keep the images in memory (--cache "
            "memory), or make files of them that can be read in any order, such as TFRecord files without compression."
        )
    pixels = np.zeros((len(source) if keep else 0, *image_shape), np.uint8)
    good, short = [], []
    for position, image, ends in _decoded(source, np.arange(len(source)), image_shape, fit).as_numpy_iterator():
        if not ends and _is_truncated(source, int(position)):
            short.append(int(position))
            if strict:
                continue
        good.append(position)
        if keep:
            pixels[position] = np.rint(255.0 * image)
    if not good:
        raise _none_readable(source)
    damaged = {}
    for position in np.setdiff1d(np.arange(len(source)), good):
        damaged[source.key(position)] = (
            f"{source.place(int(position))}: {TRUNCATED}." if int(position) in short else _reason(source, int(position))
        )
        log.warning("left out %s: %s", source.key(position), damaged[source.key(position)])
    taken = [] if strict else sorted(source.key(position) for position in short)
    return Images(source, image_shape, np.sort(good), damaged, pixels if keep else None, fit, taken)


def first_images(source: Source, image_shape: tuple[int, int, int], count: int, *, fit: Fit = "crop") -> Any:
    """Return up to `count` readable images, spread evenly over the source, as float32 `[n, h, w, c]` in [0, 1].

    Raises:
        ConfigurationError: None can be read.
    """
    spread = np.unique(np.linspace(0, len(source) - 1, 2 * count).astype(np.int64))
    # All images only where none of those can be read.
    for positions in (spread, np.arange(len(source))):
        rows = _images(source, positions, image_shape, fit).map(lambda _, image: image).take(2 * count)
        if found := list(rows.as_numpy_iterator()):
            return np.stack(found)[::2][:count]
    raise _none_readable(source)


def _none_readable(source: Source) -> ConfigurationError:
    return ConfigurationError(f"None of the {len(source)} images of {source.name} can be read.")


def _scale(batch: Any, image_shape: tuple[int, int, int], fit: Fit) -> Any:
    """Turn uint8 `[n, h, w, c]` into float32 of the model's shape."""
    if tuple(batch.shape[1:]) == image_shape:
        return tf.cast(batch, tf.float32) / 255.0
    spec = tf.TensorSpec(image_shape, tf.float32)
    return tf.map_fn(lambda pixels: resize_image(pixels, image_shape, fit), batch, fn_output_signature=spec)


def _is_truncated(source: Source, position: int) -> bool:
    try:
        return truncated(read_file(source, position))
    except ImageError:  # it is gone by now
        return False


def _images(source: Source, positions: np.ndarray[Any, Any], image_shape: tuple[int, int, int], fit: Fit) -> Dataset:
    """Return `(position, float32 image)`; images that cannot be decoded are missing."""
    return _decoded(source, positions, image_shape, fit).map(lambda position, image, _: (position, image))


def _decoded(source: Source, positions: np.ndarray[Any, Any], image_shape: tuple[int, int, int], fit: Fit) -> Dataset:
    """Return `(position, float32 image, bool)`, the last False where the file may be a JPEG that is cut short."""
    if isinstance(source, FolderSource):
        positions = np.array([i for i in positions if _is_of_bounded_size(source.path(int(i)))], np.int64)
    at = tf.data.Dataset.from_tensor_slices(np.asarray(positions, np.int64))
    if isinstance(source, ArraySource):
        array = tf.constant(source.images)
        return at.map(lambda i: (i, _scale(tf.gather(array, [i]), image_shape, fit)[0], True), tf.data.AUTOTUNE)
    if not isinstance(source, FolderSource):
        signature = (tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string))
        wanted = [int(i) for i in positions]
        files = tf.data.Dataset.from_generator(lambda: read_files(source, wanted), output_signature=signature)
        files = files.map(
            lambda i, data: (i, decode_image(for_graph_in_graph(data), image_shape, fit), ends_whole(data)),
            tf.data.AUTOTUNE,
            deterministic=True,
        )
        return files.ignore_errors(log_warning=False)
    paths = tf.data.Dataset.from_tensor_slices(np.array([str(source.path(int(i))) for i in positions], object))
    dataset = tf.data.Dataset.zip(at, paths)

    def decode(position: Any, path: Any) -> Any:
        data = tf.io.read_file(path)
        return position, decode_image(for_graph_in_graph(data), image_shape, fit), ends_whole(data)

    return dataset.map(decode, tf.data.AUTOTUNE, deterministic=True).ignore_errors(log_warning=False)


def _is_of_bounded_size(path: Path) -> bool:
    """Return whether a file may be read: TensorFlow would read one of any size, and wait for a pipe."""
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_MIB * 2**20


def _reason(source: Source, position: int) -> str:
    """Say why one image could not be decoded."""
    place = source.place(position)
    try:
        data = for_graph(read_file(source, position), place)
        thumbnail(data, place)
    except ImageError as error:
        return str(error)
    try:
        decode_image(tf.constant(data), (8, 8, 3))
    except tf.errors.OpError as error:
        return f"{place}: {error.message.splitlines()[0]}"
    return f"{place}: cannot be decoded"
