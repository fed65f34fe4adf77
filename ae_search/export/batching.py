"""The batching parameters of an exported version.

TensorFlow Serving reads `batching_params.pbtxt` in the version folder when it runs with `--enable_batching` and
`--enable_per_model_batching_parameters` (tensorflow_serving/servables/tensorflow/bundle_factory_util.cc). A model
without the file is then not batched. Threads are shared by all models and come from `--batching_parameters_file`; what
this file would say of them is ignored.
"""

import math
from pathlib import Path

from ae_search.contract import ModelCard

BATCHING_FILE = "batching_params.pbtxt"

# What one client sends in one request at most: rows of pixels, or files, and their size.
MAX_ROWS = 256
MAX_FILES = 64
REQUEST_MIB = 4
# Float32 pixels that may wait in the queue of one signature.
QUEUE_BYTES = 256 * 2**20
TIMEOUT_MICROS = 1000


def write_batching(folder: Path, card: ModelCard) -> None:
    """Write the parameters that fit a model.

    Args:
        folder: The version folder.
        card: Its image shape decides: batches of large images are smaller, and fewer of them wait.
    """
    (folder / BATCHING_FILE).write_text(_text(card.image_shape), encoding="utf-8")


def max_batch_size(image_shape: tuple[int, int, int]) -> int:
    """Return the rows of the largest batch, a power of two that holds the largest request of one client."""
    rows = min(MAX_ROWS, REQUEST_MIB * 2**20 // math.prod(image_shape))
    return int(2 ** math.ceil(math.log2(max(MAX_FILES, rows))))


def _text(image_shape: tuple[int, int, int]) -> str:
    largest = max_batch_size(image_shape)
    batch_bytes = largest * 4 * math.prod(image_shape)
    enqueued = min(64, max(2, QUEUE_BYTES // batch_bytes))
    sizes = "\n".join(f"allowed_batch_sizes: {2**power}" for power in range(largest.bit_length()))
    shape = " x ".join(map(str, image_shape))
    return f"""\
# tensorflow.serving.BatchingParameters of this version, for images of {shape}. Read by tensorflow_model_server
# --enable_batching --enable_per_model_batching_parameters; num_batch_threads and thread_pool_name come from its
# --batching_parameters_file. Each signature has a queue of its own.

# A request of more rows is refused (INVALID_ARGUMENT: Task size ... is larger than maximum input batch size). It holds
# the largest that an ae-search client sends: {MAX_FILES} files, or up to {MAX_ROWS} images within {REQUEST_MIB} MiB.
max_batch_size {{ value: {largest} }}

# How long the first request of a batch waits for company. A lone request is that much slower.
batch_timeout_micros {{ value: {TIMEOUT_MICROS} }}

# Batches that may wait; beyond them requests are refused (UNAVAILABLE). {enqueued} x {largest} images of {shape}
# floats are {enqueued * batch_bytes / 2**20:.0f} MiB, the most that waits for one signature.
max_enqueued_batches {{ value: {enqueued} }}

# A batch is filled up to the next of these with copies of one of its rows, which bounds the number of shapes that
# kernels are prepared for. Powers of two: at most half of a batch is filling.
{sizes}
"""
