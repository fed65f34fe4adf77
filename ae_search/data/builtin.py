"""The built-in data sets: from AE_SEARCH_DATA, from Keras's cache, or downloaded through `keras.datasets`."""

import gzip
import logging
import os
import socket
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ae_search.errors import ConfigurationError
from ae_search.extras import needs

log = logging.getLogger(__name__)

DATA_VARIABLE = "AE_SEARCH_DATA"
SPLITS = ("train", "test")
FASHION_LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGIT_LABELS = tuple("0123456789")
# cifar100's names do not come with the data; its fine labels stay numbers.
BUILTIN: dict[str, tuple[str, ...] | None] = {
    "fashion_mnist": FASHION_LABELS,
    "mnist": DIGIT_LABELS,
    "cifar10": CIFAR10_LABELS,
    "cifar100": None,
    "digits": DIGIT_LABELS,
}
# scikit-learn's digits come in one piece; its last 360 of 1,797 are the test split here.
DIGITS_TRAIN = 1437
DOWNLOAD_TIMEOUT_S = 30.0

ImageArray = npt.NDArray[np.uint8]
Split = tuple[npt.NDArray[Any], npt.NDArray[Any]]


class DownloadError(ConfigurationError):
    """A built-in data set is not here and could not be downloaded."""


def load_builtin(name: str, split: str) -> tuple[ImageArray, Sequence[str]]:
    """Load one split of a built-in data set.

    Returns:
        uint8 images `[n, h, w, c]` and their labels by name.

    Raises:
        DownloadError: It is in no known place and cannot be downloaded.
        ConfigurationError: A data file is damaged, or scikit-learn is missing.
    """
    local = _fashion_mnist_folder() if name == "fashion_mnist" else None
    if local is not None:
        images, numbers = _read_idx_split(local, "train" if split == "train" else "t10k")
    elif name == "digits":
        images, numbers = _digits(split)
    else:
        images, numbers = _keras_dataset(name)[SPLITS.index(split)]
    if images.ndim == 3:
        images = images[..., np.newaxis]
    names = BUILTIN[name]
    labels = [names[int(n)] if names else str(int(n)) for n in numbers.reshape(-1)]
    return images.astype(np.uint8, copy=False), labels


def _fashion_mnist_folder() -> Path | None:
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        return None
    folder = Path(root) / "fashion-mnist"
    if folder.is_dir():
        return folder
    log.info("%s=%s holds no fashion-mnist/; looking in Keras's cache", DATA_VARIABLE, root)
    return None


def _read_idx_split(folder: Path, prefix: str) -> Split:
    images = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", (28, 28))
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", ())
    if len(images) != len(labels) or labels.max(initial=0) > 9:
        raise ConfigurationError(f"{folder}: {len(images)} images do not fit {len(labels)} labels.")
    return images, labels


def _read_idx(path: Path, item_shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes (format: yann.lecun.com/exdb/mnist)."""
    limit = 64 * 2**20
    try:
        with gzip.open(path) as file:
            data = file.read(limit)
        header = np.frombuffer(data, ">u4", count=2 + len(item_shape))
        magic, count, *shape = (int(number) for number in header)
        if magic != 0x801 + len(item_shape) or tuple(shape) != item_shape:
            raise ValueError(f"magic {magic:#x}, item shape {shape}")
        return np.frombuffer(data, np.uint8, offset=header.nbytes).reshape(count, *item_shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ConfigurationError(f"{path}: not a readable IDX file of items {list(item_shape)} ({error}).") from error


def _digits(split: Literal["train", "test"] | str) -> Split:
    with needs("digits needs scikit-learn", "digits"):
        from sklearn.datasets import load_digits
    images, numbers = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    chosen = slice(None, DIGITS_TRAIN) if split == "train" else slice(DIGITS_TRAIN, None)
    return pixels[chosen], numbers[chosen]


def _keras_dataset(name: str) -> tuple[Split, Split]:
    instead = f", or set {DATA_VARIABLE} to a folder that holds fashion-mnist/"
    with needs(f"{name} needs Keras", "tensorflow", otherwise=instead):
        import keras
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)  # a network that swallows packets must not hang the command
    try:
        train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # urllib, Keras and pickle each raise their own
        raise DownloadError(
            f"{name} is neither in Keras's cache nor can it be downloaded ({_first_line(error)}). "
            f"Fashion-MNIST is also read from {DATA_VARIABLE}, a folder that holds fashion-mnist/."
        ) from error
    finally:
        socket.setdefaulttimeout(previous)
    return train, test


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
