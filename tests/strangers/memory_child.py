"""Decodes one file as a model does, in a process of its own, and prints the memory that it took beyond the file.

Arguments: the file, the side of the model in px, "crop" or "pad".
"""

import json
import sys
import time
from pathlib import Path

import tensorflow as tf
from image_child import rise_mib

from ae_search.data.decode import decode_image


def main(path, side, fit):
    shape = (int(side), int(side), 3)
    signature = [tf.TensorSpec((), tf.string)]
    decode = tf.function(lambda data: decode_image(data, shape, fit), input_signature=signature)
    # The threads and tables of a first call are no part of it.
    small = Path(path).with_name("small.png").read_bytes()
    decode(tf.constant(small))
    data = tf.constant(Path(path).read_bytes())
    began = time.perf_counter()
    _, rise = rise_mib(lambda: decode(data).numpy())
    print(json.dumps({"rise_mib": rise, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
