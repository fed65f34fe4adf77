"""What is fuzzed: one function for each parser of a stranger's bytes; each returns, whatever the bytes, or has a fault.

`make fuzz` runs them under atheris; a test runs the kept corpus through them without it.
"""

import contextlib
import gzip
import json
import sqlite3
import tempfile
import weakref
from pathlib import Path

import numpy as np
from annoy import AnnoyIndex

from ae_search.client.requests import card_of, latents_of
from ae_search.client.rpc_errors import Asked
from ae_search.contract import ModelCard, metadata_of, parse_where
from ae_search.data.builtin import _read_idx
from ae_search.errors import (
    AeSearchError,
    ConfigurationError,
    ImageError,
    IndexDamagedError,
    ServerAnswerError,
)
from ae_search.exchange.parquet_file import malformed
from ae_search.exchange.parquet_table import read_parquet
from ae_search.image_file import check_image
from ae_search.index.engine.annoy_nodes import Nodes
from ae_search.index.items.conditions import compile_conditions
from ae_search.index.items.names import Names
from ae_search.index.manifest import CURRENT, MANIFEST, Manifest, _with_digest, live_generation

CARD = ModelCard(name="tiny", version=3, fingerprint="cd" * 32, image_shape=(4, 4, 1), latent_dim=4)
ROWS = 2

_folder = tempfile.TemporaryDirectory(prefix="ae-search-fuzz-")
weakref.finalize(_folder, _folder.cleanup)
FOLDER = Path(_folder.name)


def manifest(data: bytes) -> None:
    """A manifest; where the bytes are a JSON object, the digest that it carries is right."""
    with contextlib.suppress(ValueError, RecursionError):
        raw = json.loads(data)
        if isinstance(raw, dict):
            raw.pop("sha256", None)
            data = _with_digest(raw).encode()
    (FOLDER / MANIFEST).write_bytes(data)
    with contextlib.suppress(ConfigurationError, IndexDamagedError):
        Manifest.read(FOLDER).to_json()


def current(data: bytes) -> None:
    """The file that names the live generation."""
    (FOLDER / CURRENT).write_bytes(data)
    with contextlib.suppress(ConfigurationError, IndexDamagedError):
        assert live_generation(FOLDER).parent == FOLDER


def names(data: bytes) -> None:
    """Keys, labels and metadata; the first byte is how many items there are."""
    path = FOLDER / "names.bin"
    path.write_bytes(data[1:])
    count = data[0] if data else 0
    with contextlib.suppress(IndexDamagedError):
        opened = Names(path, count)
        opened.check()
        for item in range(count):
            with contextlib.suppress(IndexDamagedError):
                (name,) = opened.of([item])
                metadata_of(name[2])


def forest(data: bytes) -> None:
    """A forest; the first four bytes are its items, trees, floats and metric. What passes is searched by Annoy."""
    path = FOLDER / "forest.ann"
    items, n_trees, dim = (1 + byte for byte in data[:3].ljust(3, b"\0"))
    metric = "angular" if data[3:4] < b"\x80" else "euclidean"
    path.write_bytes(data[4:])
    try:
        Nodes(path, dim, metric).check(items, n_trees)
    except IndexDamagedError:
        return
    annoy = AnnoyIndex(dim, metric)
    annoy.load(str(path))
    assert annoy.get_n_items() == items
    assert annoy.get_n_trees() <= 2 * n_trees + 1
    found = annoy.get_nns_by_vector([1.0] * dim, items, items * annoy.get_n_trees())
    assert sorted(found) == list(range(items))


def parquet(data: bytes) -> None:
    """Latents of another program."""
    path = FOLDER / "all.parquet"
    path.write_bytes(data)
    with contextlib.suppress(ConfigurationError), malformed(path):
        table = read_parquet(path, None)
        for block in table.blocks:
            assert block.latents.shape == (len(block.keys), table.latent_dim)


def card(data: bytes) -> None:
    """A model card."""
    with contextlib.suppress(ServerAnswerError):
        assert ModelCard.from_json(data).latent_dim >= 1


def answer(data: bytes) -> None:
    """A model server's answers."""
    asked = Asked("127.0.0.1:8500", CARD.name)
    for read in (lambda: latents_of(data, CARD, asked, ROWS), lambda: card_of(data, asked)):
        with contextlib.suppress(AeSearchError):
            read()


def where(data: bytes) -> None:
    """A filter; what is accepted is SQL that SQLite takes."""
    try:
        sql, values = compile_conditions(parse_where(json.loads(data)))
    except (ValueError, RecursionError):
        return
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, key TEXT, label TEXT, metadata TEXT)")
        connection.execute("""INSERT INTO items VALUES (0, 'a', 'b', '{"n": 1, "t": "x"}')""")
        connection.execute(f"SELECT id FROM items WHERE {sql}", values).fetchall()


def image(data: bytes) -> None:
    """An image file."""
    with contextlib.suppress(ImageError):
        check_image(data, "an image")


def idx(data: bytes) -> None:
    """A file of a built-in data set, packed and as it is."""
    for content in (gzip.compress(data, compresslevel=1, mtime=0), data):
        (FOLDER / "images.gz").write_bytes(content)
        for shape in ((), (2, 2)):
            with contextlib.suppress(ConfigurationError):
                read = _read_idx(FOLDER / "images.gz", shape)
                assert (read.dtype, read.shape[1:]) == (np.uint8, shape)


TARGETS = {
    target.__name__: target for target in (manifest, current, names, forest, parquet, card, answer, where, image, idx)
}
