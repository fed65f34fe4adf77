"""A disk that takes no more: an error of ours, and the index as it was.

A limit on the size of files stands in for the full disk: the write that passes it fails in the same way.
"""

import subprocess
import sys

import numpy as np
import pytest
from index_fixtures import *  # noqa: F403

from ae_search.index import LatentIndex

CHILD = """
import resource, sys
import numpy as np
from pathlib import Path
from ae_search.contract import ModelCard
from ae_search.errors import ConfigurationError
from ae_search.index import AnnoyOptions, BuildOptions, IndexBuilder, LatentIndex

path, job, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
card = ModelCard("tiny", 1, "ab" * 32, (28, 28, 1), 8)
rows = np.random.default_rng(3).normal(size=(3000, 8)).astype(np.float32)
keys = [f"new-{at}" for at in range(3000)]
index = LatentIndex.open(path) if job != "build" else None
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if job in ("build", "replace"):
        with IndexBuilder(path, card, BuildOptions(AnnoyOptions(4), replace=job == "replace")) as builder:
            builder.add(rows, keys)
    elif job == "add":
        index.add(rows, keys)
    elif job == "compact":
        index.compact()
except ConfigurationError as error:
    print("refused:", error)
else:
    print("done")
"""


def run(path, job, limit):
    command = [sys.executable, "-c", CHILD, str(path), job, str(limit)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def snapshot(path):
    with LatentIndex.open(path) as index:
        keys = index.keys()
        return keys, index.latents(keys).tolist(), index.search(np.ones(8), 5)


# Each limit stops another stage: the catalogue, the spilled latents, the forest, the names.
LIMITS = [1 << 12, 40_000, 70_000, 90_000, 120_000, 150_000, 200_000]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_build_that_does_not_fit_leaves_nothing(tmp_path, limit):
    assert run(tmp_path / "index", "build", limit).startswith(f"refused: Cannot write the index {tmp_path}/index")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("job", ["replace", "add", "compact"])
@pytest.mark.parametrize("limit", [LIMITS[0], LIMITS[2], LIMITS[4]])
def test_a_change_that_does_not_fit_leaves_the_index(build, latents, job, limit):
    path = build()
    with LatentIndex.open(path) as index:
        index.remove(["key-3"])
        if job == "compact":
            index.add(np.tile(latents, (5, 1)) + 1, [f"more-{at}" for at in range(3000)])
    before = snapshot(path)
    assert run(path, job, limit).startswith("refused: ")
    assert snapshot(path) == before
    assert not list(path.glob(".tmp-*"))
    with LatentIndex.open(path) as index:
        index.add(latents[:1], ["there is room again"])
        assert len(index) == len(before[0]) + 1


def test_what_fits_is_done(tmp_path):
    assert run(tmp_path / "index", "build", 1 << 22) == "done\n"
