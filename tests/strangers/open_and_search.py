"""Opens an index and searches it in every way; prints how that went, for the test that started it."""

import sys

import numpy as np

from ae_search.errors import IndexDamagedError
from ae_search.index import LatentIndex

try:
    with LatentIndex.open(sys.argv[1]) as index:
        dim = index.manifest.latent_dim
        for count in (1, 3, 100):
            latents = np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)
            for options in ({}, {"effort": 2**31 - 1}, {"k": 1000}, {"where": {"label": "a label"}}):
                answers = index.search(latents, **options)
                assert all(len(answer) == min(options.get("k", 10), len(index)) for answer in answers)
        print("searched", len(index))
except IndexDamagedError as error:
    print("damaged", error)
