"""Fixtures of this folder; not a conftest, because tests of other rooms import the one above by its name."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from index_items import CARD, DIM, clustered, small_block
from index_oracle import Oracle

from ae_search.index import AnnoyOptions, BuildOptions, IndexBuilder, Resources
from ae_search.index.items.changes import CHANGES, digest_of_files
from ae_search.index.manifest import MANIFEST, _with_digest
from ae_search.index.store.proof import describe_file

# The values are for those who import them by name.
__all__ = [
    "CARD",
    "DIM",
    "build",
    "card",
    "clustered",
    "latents",
    "metric",
    "ready",
    "small",
    "small_templates",
    "templates",
]


def options_of(n_trees=4, *, jobs=-1, on_disk=None, **options):
    """Return options in one call: this file is imported by child processes, which know this folder alone."""
    return BuildOptions(AnnoyOptions(n_trees), resources=Resources(jobs, on_disk), **options)


def build_at(path, rows, model=CARD, **options):
    """Build an index whose keys are key-0, key-1 and so on, in five classes."""
    with IndexBuilder(path, model, options_of(**options)) as builder:
        builder.add(rows, [f"key-{i}" for i in range(len(rows))], [f"label-{i % 5}" for i in range(len(rows))])
    return path


def only_generation(path) -> Path:
    """Return the folder of the only generation of an index."""
    (folder,) = path.glob("generation-*")
    return folder


def sign(generation, **changes):
    """Let manifest and changes vouch for the bytes that the files have now, and the manifest for other values."""
    raw = json.loads((generation / MANIFEST).read_text())
    files = {name: describe_file(generation / name) for name in raw["files"]}
    raw["files"] = {name: vars(proof) for name, proof in files.items()}
    del raw["sha256"]
    (generation / MANIFEST).write_text(_with_digest(raw | changes))
    with closing(sqlite3.connect(generation / CHANGES)) as connection, connection:
        connection.execute("UPDATE base SET files = ?", (digest_of_files(files),))


@pytest.fixture
def card():
    return CARD


@pytest.fixture(params=["angular", "euclidean"])
def metric(request):
    return request.param


@pytest.fixture
def latents():
    return clustered()


@pytest.fixture
def build(tmp_path, latents):
    """Return a function that builds an index of the latents and returns its folder."""

    def build_index(name="index", rows=latents, model=CARD, **options) -> Path:
        return build_at(tmp_path / name, rows, model, **options)

    return build_index


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """Indexes of the latents, one for each metric, to be copied and never changed."""
    root = tmp_path_factory.mktemp("templates")
    cards = [replace(CARD, metric=name) for name in ("angular", "euclidean")]
    return {card.metric: build_at(root / card.metric, clustered(), card, jobs=1) for card in cards}


@pytest.fixture
def ready(tmp_path, templates):
    """Return a function that copies such an index and returns its folder."""

    def copy(metric="angular", name="index") -> Path:
        return Path(shutil.copytree(templates[metric], tmp_path / name))

    return copy


@pytest.fixture(scope="session")
def small_templates(tmp_path_factory):
    """Indexes of items that have all that an item can have, one for each metric, and what they must hold."""
    block = small_block()
    made = {}
    for name in ("angular", "euclidean"):
        path = tmp_path_factory.mktemp("small") / name
        with IndexBuilder(path, replace(CARD, metric=name), options_of(3)) as builder:
            builder.add(**block)
        oracle = Oracle(name)
        oracle.add(**block)
        made[name] = path, oracle
    return made


@pytest.fixture
def small(tmp_path, small_templates, metric):
    """A copy of such an index, and what it must hold."""
    path, oracle = small_templates[metric]
    return Path(shutil.copytree(path, tmp_path / "small")), oracle.copy()
