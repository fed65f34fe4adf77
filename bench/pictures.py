"""The images that latents are measured on: those that are searched, and those that they are searched for."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ae_search.data import ArraySource, Source, open_source

Pixels = npt.NDArray[np.uint8]
Split = Literal["test", "held out", "photos", "objects"]

# Training images that stand for test queries where something is still chosen.
HELD_OUT = 10_000
# Files of the photographs begin with the name of their split.
SEARCHED = ("train_*", "val_*")
QUERIED = ("test_*",)
BACKBONE = "backbones/efficientnet_lite0.keras"


@dataclass(frozen=True)
class Protocol:
    """What is searched, and what it is searched for.

    Attributes:
        split: "test": the training images of Fashion-MNIST and its test images; "held out": 50,000 of the training
            images and the other 10,000; "photos" and "objects", folders of photographs: those of train and val, and
            those of test.
        items: How many of the images are searched at most; None for all.
        queries: The same of those that they are searched for.
    """

    split: Split
    items: int | None = None
    queries: int | None = None

    def sources(self) -> tuple[Source, Source]:
        """Return the source that is searched, which is trained on too, and that of the queries."""
        database, queries = _of(self.split)
        return _first(database, self.items), _first(queries, self.queries)


def pictures(source: Source, image_shape: tuple[int, int, int]) -> tuple[Pixels, list[str]]:
    """Return the images of a source, uint8 `[n, h, w, c]`, and their labels."""
    from ae_search.data.pipeline import readable_images

    images = readable_images(source, image_shape, cache="memory")
    assert images.pixels is not None
    if images.damaged:
        raise SystemExit(f"Images that cannot be read: {', '.join(images.damaged)}.")
    return images.pixels, [str(label) for label in source.labels]


def with_labels(source: Source, share: float, *, seed: int) -> Source:
    """Return the same source with the labels of only a share of its images, in [0, 1]."""
    given = np.random.default_rng(seed).permutation(len(source)) < round(share * len(source))
    labels = [label if known else None for label, known in zip(source.labels, given, strict=True)]
    return replace(source, labels=labels)


def photographs_folder(name: str = "photos") -> Path:
    """Return a folder of photographs below AE_SEARCH_DATA."""
    return _below_data(name, "a tree of JPEG files, one folder for each kind")


def backbone_file() -> Path:
    """Return the file of the pretrained backbone below AE_SEARCH_DATA."""
    return _below_data(BACKBONE, "a Keras model from images to features")


def _below_data(name: str, what: str) -> Path:
    path = Path(os.environ.get("AE_SEARCH_DATA", "")) / name
    if not path.exists():
        raise SystemExit(f"AE_SEARCH_DATA must name a folder with {name}: {what}")
    return path


def photographs_of(image_shape: tuple[int, int, int]) -> Pixels:
    """Return all photographs, uint8 `[n, h, w, c]`."""
    return pictures(open_source(str(photographs_folder())), image_shape)[0]


def _of(split: Split) -> tuple[Source, Source]:
    if split in ("photos", "objects"):
        folder = photographs_folder(split)
        return open_source(str(folder), only=SEARCHED), open_source(str(folder), only=QUERIED)
    train = open_source("fashion_mnist/train")
    assert isinstance(train, ArraySource)
    if split == "test":
        return train, open_source("fashion_mnist/test")
    order = np.random.default_rng(0).permutation(len(train))
    return _at(train, np.sort(order[HELD_OUT:])), _at(train, np.sort(order[:HELD_OUT]))


def _first(source: Source, count: int | None) -> Source:
    """Return `count` images at random."""
    if count is None or count >= len(source):
        return source
    assert isinstance(source, ArraySource)
    return _at(source, np.sort(np.random.default_rng(0).permutation(len(source))[:count]))


def _at(source: ArraySource, positions: npt.NDArray[Any]) -> ArraySource:
    return replace(source, images=source.images[positions], labels=[source.labels[at] for at in positions])
