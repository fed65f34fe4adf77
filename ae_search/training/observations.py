"""What a frozen backbone says of each image, computed once and kept on disk.

RUN/observed/
  progress.json     what the rows depend on, as one digest, and how many are finished
  features.npy      float32 [images, looks, f]
  colours.npy       float32 [images, floats]
  gradients.npy     float32 [images, floats]
  pixels.npy        uint8 [images, h, w, 3], small
  there.npy         uint8 [images], 0 where a file had vanished by then

It may be deleted at any time, and is made again where it is needed.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ae_search.checked_json import parsed_object, text_of, whole_of
from ae_search.data import ArraySource, Source
from ae_search.data.decode import PREPROCESSING
from ae_search.data.pipeline import Images, Positions, images_at_once
from ae_search.errors import ConfigurationError, ImageError
from ae_search.files import make_folder, write_atomically
from ae_search.model.backbone.encoder import observing_model
from ae_search.model.backbone.loading import Backbone
from ae_search.model.backbone.looks import HISTOGRAM_SIDE_PX, LOOKS
from ae_search.training.epoch_lines import duration

log = logging.getLogger(__name__)

FOLDER = "observed"
FORMAT = 2
MAX_PROGRESS_BYTES = 2**16
# Shows how far something is: what it is, and of how many; what comes is called with how many more are done.
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
Rows = dict[str, npt.NDArray[Any]]


@contextmanager
def no_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show nothing."""
    yield lambda done: None


@dataclass(frozen=True)
class Observations:
    """What was observed of some images, in files that are read where they are needed.

    Attributes:
        source: Where the images come from.
        positions: Positions of the images that were observed.
        files: "features", "colours", "gradients", "pixels" and "there", each `[rows, ...]`.
        row: Row of each position of the source, -1 where it was not observed.
    """

    source: Source
    positions: Positions
    files: Rows
    row: npt.NDArray[np.int64] = field(repr=False)

    def at(self, positions: Positions, name: str) -> npt.NDArray[Any]:
        """Return what one file says of the images at some positions."""
        return np.asarray(self.files[name][self.row[positions]])


def observe(images: Images, backbone: Backbone, folder: Path, *, progress: Progress = no_progress) -> Observations:
    """Observe images, or go on where that was interrupted; what was observed already is read.

    Args:
        images: The images.
        backbone: What looks at them.
        folder: Where it is kept.
        progress: Shows how far it is.

    Raises:
        ConfigurationError: The backbone returns numbers that are not finite.
        OSError: The files cannot be written.
    """
    model = observing_model(backbone.model, images.image_shape)
    files = _Files.open(make_folder(folder, "run's"), _digest(images, backbone), len(images), model)
    if files.finished < len(images):
        began = time.monotonic()
        with progress("looking through the backbone", len(images)) as advance:
            advance(files.finished)
            for rows in _observed(model, images, files.finished):
                files.append(rows)
                advance(len(rows["there"]))
        log.info("%s looked at %d images in %s", backbone.name, len(images), duration(time.monotonic() - began))
    else:
        log.info("what %s sees in the images is in %s already", backbone.name, folder)
    there = np.asarray(files.arrays["there"], bool)
    row = np.full(len(images.source), -1, np.int64)
    row[images.positions] = np.arange(len(images))
    return Observations(images.source, images.positions[there], files.arrays, row)


def _observed(model: Any, images: Images, start: int) -> Iterator[Rows]:
    """Yield the rows of the images from one on, a block at a time; each block is whole, whichever images vanished."""
    block = images_at_once(images.image_shape)
    look = tf.function(lambda batch: model(batch, training=False), [tf.TensorSpec((None, *images.image_shape))])
    for first in range(start, len(images), block):
        positions = images.positions[first : first + block]
        rows: Rows = {
            name: np.zeros((len(positions), *shape), dtype) for name, (shape, dtype) in _layout(model).items()
        }
        for at, batch in images.batches(positions, block).as_numpy_iterator():
            features, colours, gradients, pixels = (part.numpy() for part in look(batch))
            if not np.isfinite(features).all():
                raise ConfigurationError(
                    "The backbone returns numbers that are not finite; check its weights, and what it is fed "
                    "(--input-range)."
                )
            there = np.searchsorted(positions, at)
            rows["features"][there], rows["colours"][there], rows["there"][there] = features, colours, 1
            rows["gradients"][there] = gradients
            rows["pixels"][there] = np.rint(255.0 * np.clip(pixels, 0.0, 1.0))
        yield rows


def _layout(model: Any) -> dict[str, tuple[tuple[int, ...], type]]:
    """Return shape and dtype of a row of each file."""
    features, colours, gradients, pixels = (tuple(shape[1:]) for shape in model.output_shape)
    return {
        "features": (features, np.float32),
        "colours": (colours, np.float32),
        "gradients": (gradients, np.float32),
        "pixels": (pixels, np.uint8),
        "there": ((), np.uint8),
    }


@dataclass
class _Files:
    """The files of a folder while they grow. Rows count once `progress.json` says so."""

    folder: Path
    digest: str
    arrays: Rows
    finished: int

    @classmethod
    def open(cls, folder: Path, digest: str, count: int, model: Any) -> "_Files":
        """Take files as they are where they belong to the same images and backbone; make new ones elsewhere."""
        layout = {name: ((count, *shape), dtype) for name, (shape, dtype) in _layout(model).items()}
        finished = _finished(folder, digest)
        if finished:
            try:
                arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in layout}
                if all((one.shape, one.dtype) == layout[name] for name, one in arrays.items()) and finished <= count:
                    return cls(folder, digest, arrays, finished)
            except (OSError, ValueError, EOFError):
                log.warning("%s is damaged, and is made anew", folder)
        (folder / "progress.json").unlink(missing_ok=True)
        for name, (shape, dtype) in layout.items():
            path = folder / f"{name}.npy"
            path.unlink(missing_ok=True)
            np.lib.format.open_memmap(path, "w+", dtype, shape)
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in layout}
        return cls(folder, digest, arrays, 0)

    def append(self, rows: Rows) -> None:
        """Write rows behind those that are finished; through files, since a full disk kills who writes to a map."""
        for name, values in rows.items():
            array = self.arrays[name]
            with (self.folder / f"{name}.npy").open("r+b") as file:
                file.seek(array.offset + self.finished * array.strides[0])  # type: ignore[attr-defined]
                file.write(np.ascontiguousarray(values).tobytes())
                file.flush()
                os.fsync(file.fileno())
        self.finished += len(rows["there"])
        told = {"digest": self.digest, "finished": self.finished}
        write_atomically(self.folder / "progress.json", json.dumps(told))


def _finished(folder: Path, digest: str) -> int:
    """Return how many rows are finished; none where they are of other images or of another backbone."""
    try:
        told = parsed_object((folder / "progress.json").read_bytes(), max_bytes=MAX_PROGRESS_BYTES)
        return whole_of(told, "finished", 0) if text_of(told, "digest") == digest else 0
    except (OSError, ValueError, KeyError):
        return 0


def _digest(images: Images, backbone: Backbone) -> str:
    """Return the digest of all that observations depend on: of pixels, or of when files that are not held changed."""
    told = [FORMAT, PREPROCESSING, keras.__version__, images.image_shape, images.fit, LOOKS, HISTOGRAM_SIDE_PX]
    digest = hashlib.sha256(json.dumps([*told, backbone.digest, backbone.feeding]).encode())
    source = images.source
    digest.update(images.positions.tobytes())
    pixels = source.images if isinstance(source, ArraySource) else images.pixels
    if pixels is not None:
        for image in pixels:
            digest.update(image.tobytes())
        return digest.hexdigest()
    for position in map(int, images.positions):
        digest.update(f"{source.key(position)}\0{_stamp(source, position)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _stamp(source: Source, position: int) -> object:
    try:
        return source.stamp(position)
    except ImageError:  # it is gone by now
        return None
