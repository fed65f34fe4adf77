"""A tf.data job that asks a model server for the latents of a folder of images.

usage: python examples/tfdata_job.py FOLDER latents.parquet --server 127.0.0.1:8500 --model MODEL

tf.data reads the files, several at a time; several batches are on their way to the server at once. Keys and latents go
to a Parquet file that `ae-search index import` reads. `ae-search embed` does the same and survives a kill; take this
where the images come out of a tf.data pipeline of your own: shards of TFRecords, augmented images, frames of a video.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from ae_search import LatentClient

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"}
# The files of a batch are in memory together: 64 photographs of 5 MB are 320 MB, times the batches under way.
BATCH, BATCHES_IN_FLIGHT = 64, 2


def encoded(images: Any, client: LatentClient) -> Any:
    """Return a dataset of (latents float32 `[n, d]`, keys `[n]`), without the images that cannot be decoded.

    Args:
        images: Dataset of (bytes of an image file, key). For pixels, uint8 `[h, w, c]` of the model's shape, put
            `client.encode` in place of `client.encode_files`; it takes the batch `[n, h, w, c]` as it comes.
        client: Pinned to a version; safe to use from the several threads that tf.data calls it from.
    """

    def ask(files: Any, keys: Any) -> tuple[Any, Any]:
        bad: list[int] = []

        def note(position: int, error: Exception) -> None:
            bad.append(position)
            print(f"left out {keys[position].decode()}: {error}", file=sys.stderr)

        latents = client.encode_files(list(files), on_bad=note)
        return latents, np.delete(keys, bad)

    return (
        images.batch(BATCH)
        .map(
            lambda files, keys: tf.numpy_function(ask, [files, keys], [tf.float32, tf.string]),
            num_parallel_calls=BATCHES_IN_FLIGHT,
            deterministic=True,
        )
        .prefetch(1)
    )


def files_of(folder: Path) -> Any:
    """Return a dataset of (bytes, key) of the image files below a folder, the key being the path within it."""
    keys = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not keys:
        sys.exit(f"There is no image below {folder}.")
    dataset = tf.data.Dataset.from_tensor_slices(keys)
    return dataset.map(
        lambda key: (tf.io.read_file(tf.strings.join([str(folder), key], "/")), key),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def write_parquet(batches: Iterator[tuple[Any, Any]], to: Path, latent_dim: int) -> int:
    """Write the columns key and latent; return the number of rows."""
    kind = pa.list_(pa.float32(), latent_dim)
    rows = 0
    with pq.ParquetWriter(to, pa.schema([("key", pa.string()), ("latent", kind)])) as writer:
        for latents, keys in batches:
            column = pa.FixedSizeListArray.from_arrays(pa.array(latents.ravel()), type=kind)
            writer.write_table(pa.table({"key": [key.decode() for key in keys], "latent": column}))
            rows += len(keys)
    return rows


def main() -> None:
    """Read the arguments and run the job."""
    parser = argparse.ArgumentParser(description="Latents of a folder of images, by tf.data.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("to", type=Path)
    parser.add_argument("--server", default="127.0.0.1:8500")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    with LatentClient(arguments.server, arguments.model) as client:
        card = client.describe()
        # One version for the whole job, whatever is rolled out meanwhile.
        dataset = encoded(files_of(arguments.folder), client.at_version(card.version))
        rows = write_parquet(dataset.as_numpy_iterator(), arguments.to, card.latent_dim)
    print(f"{rows} latents of {card.name} version {card.version} in {arguments.to}")


if __name__ == "__main__":
    main()
