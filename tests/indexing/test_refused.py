"""Images that the server refused although they can be decoded here: counted apart, and tried again."""

import io
import json
from collections import Counter

import numpy as np
import pytest
from build_options import build_options
from pictures import coloured_picture
from PIL import Image
from pixel_encoder import OTHER, PixelEncoder, at
from typer.testing import CliRunner

from ae_search.cli import app
from ae_search.cli.connection import Connection
from ae_search.data import open_source
from ae_search.errors import ConfigurationError, ImageError, ImageRefusedError
from ae_search.index import LatentIndex
from ae_search.indexing import add_source, index_source, rebuild, update_source
from ae_search.indexing.shards import embed_source


class Refusing(PixelEncoder):
    """Refuses the files of some grey, so many times each."""

    grey, times = (3, 4), 1

    def at_version(self, version):
        pinned = Refusing(self.cards, version)
        pinned.grey, pinned.times = self.grey, self.times
        return pinned

    def encode_files(self, files, *, on_bad=None):
        read = [file if isinstance(file, bytes) else file.read_bytes() for file in files]
        greys = [grey_of(data) for data in read]
        told = {position for position, grey in enumerate(greys) if grey in self.grey and Refusing.left[grey] > 0}
        for position in told:
            Refusing.left[greys[position]] -= 1
        kept = [position for position in range(len(read)) if position not in told]
        bad = {}
        latents = super().encode_files([read[position] for position in kept], on_bad=bad.__setitem__)
        for position in sorted({*told, *(kept[one] for one in bad)}):
            on_bad(position, ImageRefusedError("refused") if position in told else ImageError("damaged"))
        return latents

    left = Counter()


def grey_of(data):
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.convert("L").getpixel((0, 0))
    except OSError:
        return None


@pytest.fixture
def encoder():
    Refusing.left = Counter({3: 1, 4: 1})
    return Refusing(at(2))


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures, one of which is none."""
    root = tmp_path / "pictures"
    root.mkdir()
    for grey in range(12):
        Image.fromarray(np.full((2, 2), grey, np.uint8)).save(root / f"{grey:02}.png")
    (root / "07.png").write_bytes(coloured_picture(1).tobytes())
    return root


REFUSED = {"03.png": "refused", "04.png": "refused"}


def test_shards_keep_apart_what_was_refused(folder, encoder, tmp_path):
    source, out = open_source(str(folder)), tmp_path / "out"
    report = embed_source(source, encoder, out, shard_items=4)
    assert (report.images, report.refused, list(report.left_out)) == (9, REFUSED, ["07.png"])
    rows = [json.loads(line) for line in (out / "_left-out.jsonl").read_text().splitlines()]
    assert {row["key"]: row["refused"] for row in rows} == {"03.png": True, "04.png": True, "07.png": False}
    again = embed_source(source, encoder, out, shard_items=4)
    assert (again.found, again.refused) == (3, REFUSED)
    last = embed_source(source, encoder, out, shard_items=4, retry_left_out=True)
    assert (last.images, last.refused, list(last.left_out)) == (11, {}, ["07.png"])


def test_a_first_shard_that_was_refused_as_a_whole(folder, encoder, tmp_path):
    Refusing.left = Counter(dict.fromkeys(range(12), 1))
    encoder.grey = tuple(range(12))
    with pytest.raises(ImageRefusedError, match=r"None of the first 4 images can be encoded; 00\.png: refused"):
        embed_source(open_source(str(folder)), encoder, tmp_path / "out", shard_items=4)


def test_an_index_is_completed_by_adding_the_same_source(folder, encoder, tmp_path):
    source = open_source(str(folder))
    report = index_source(source, encoder, tmp_path / "index", build_options(n_trees=2))
    assert (report.info.items, report.refused, list(report.damaged)) == (9, REFUSED, ["07.png"])
    with LatentIndex.open(tmp_path / "index") as index:
        added = add_source(source, encoder, index)
        assert (added.changed, added.passed_over, added.refused) == (2, 9, {})
        Refusing.left = Counter({3: 1})
        updated = update_source(source, encoder, index)
        assert (updated.changed, list(updated.refused)) == (10, ["03.png"])
        assert len(index) == 11


def test_no_index_of_what_was_all_refused(folder, encoder, tmp_path):
    Refusing.left = Counter(dict.fromkeys(range(12), 1))
    encoder.grey = tuple(range(12))
    with pytest.raises(ImageRefusedError, match="No image of"):
        index_source(open_source(str(folder)), encoder, tmp_path / "index", build_options(n_trees=2))
    with pytest.raises(ConfigurationError):
        LatentIndex.open(tmp_path / "index")


@pytest.mark.parametrize("drop_missing", [False, True])
def test_a_rebuild_never_drops_what_was_refused(folder, encoder, tmp_path, drop_missing):
    source = open_source(str(folder))
    Refusing.left = Counter({})
    encoder = Refusing(at(2) | at(3, OTHER))
    (folder / "07.png").unlink()
    source = open_source(str(folder))
    index_source(source, encoder.at_version(2), tmp_path / "index", build_options(n_trees=2))
    Refusing.left = Counter({4: 1})
    index = LatentIndex.open(tmp_path / "index")
    with pytest.raises(ImageRefusedError, match=r"stays as it is\. 04\.png"):
        rebuild(index, encoder, [source], drop_missing=drop_missing)
    assert (len(index), index.model.version) == (11, 2)
    assert rebuild(index, encoder, [source]).info.items == 11


def test_the_commands_count_them_and_end_with_1(folder, encoder, tmp_path, monkeypatch):
    """The encoder is a real one in this process, in the place of a server."""
    monkeypatch.setattr(Connection, "encoder", lambda self, default_name="": encoder)
    run = CliRunner().invoke
    out, index = str(tmp_path / "out"), str(tmp_path / "an index")
    first = run(app, ["embed", str(folder), "--out", out])
    assert first.exit_code == 1
    assert (
        "refused 2 images" in first.output and "--retry-left-out" in first.output and "1 images cannot" in first.output
    )
    assert run(app, ["embed", str(folder), "--out", out]).exit_code == 1
    second = run(app, ["embed", str(folder), "--out", out, "--retry-left-out"])
    assert second.exit_code == 3 and "refused" not in second.output

    Refusing.left = Counter({3: 2, 4: 1})
    built = run(app, ["index", "build", str(folder), "--index", index, "--trees", "2"])
    assert built.exit_code == 1
    assert "refused 2 images" in built.output and "1 damaged images left out" in built.output
    assert f"`ae-search index add {folder} --index '{index}'`" in built.output
    added = run(app, ["index", "add", str(folder), "--index", index])
    assert added.exit_code == 1 and "refused 1 images" in added.output
    assert run(app, ["index", "add", str(folder), "--index", index]).exit_code == 0
    Refusing.left = Counter({3: 1})
    assert run(app, ["index", "update", str(folder), "--index", index]).exit_code == 1
    assert run(app, ["index", "update", str(folder), "--index", index]).exit_code == 0
