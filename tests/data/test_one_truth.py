"""A picture in every kind of file: training's own reading, clients and the local encoder see the same."""

import asyncio
import io
import os
from pathlib import Path

import numpy as np
import pytest
from odd_images import kinds, upright
from pictures import coloured_picture, encoded
from PIL import Image

from ae_search.data import open_source
from ae_search.data.pipeline import first_images, readable_images
from ae_search.data.sources import FolderSource
from ae_search.image_file import for_graph, thumbnail

SHAPE = (16, 16, 3)
KINDS = {name: data for name, (data, _, _) in kinds().items() if "under tag" not in name}
KINDS |= {f"{kind} under tag 6": kinds()[f"{kind} under tag 6"][0] for kind in ("TIFF", "AVIF", "HEIC")}
SHARED = os.environ.get("AE_SEARCH_DATA", "")


def written(folder, files):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return FolderSource("files", folder, sorted(files), [None] * len(files), 0)


@pytest.fixture
def encoders(tiny_export):
    from ae_search.client import AsyncLatentClient, LatentClient
    from ae_search.model_server import LocalEncoder, ModelServer

    async def by_asyncio(address, files):
        async with AsyncLatentClient(address, "tiny") as client:
            return await client.encode_files(files)

    with ModelServer(tiny_export) as server, LatentClient(server.address, "tiny") as client:
        yield {
            "client": client.encode_files,
            "client for asyncio": lambda files: asyncio.run(by_asyncio(server.address, files)),
            "local encoder": LocalEncoder(tiny_export).encode_files,
        }


def test_what_is_sent_and_what_is_learned_from_are_one(tmp_path, encoders, tiny_export):
    from ae_search.model_server import LocalEncoder

    source = written(tmp_path, KINDS)
    images = readable_images(source, SHAPE)
    assert images.damaged == {}
    paths = [source.path(at) for at in range(len(source))]
    (_, learned), *_ = images.batches(images.positions, len(images)).as_numpy_iterator()
    learned = LocalEncoder(tiny_export).encode(learned)
    for name, encode in encoders.items():
        assert np.abs(encode(paths) - learned).max() < 1e-3, name
        assert np.array_equal(encode(paths), encode([path.read_bytes() for path in paths])), name
    assert np.array_equal(encoders["client"](paths), encoders["client for asyncio"](paths))


@pytest.mark.slow
def test_each_kind_can_be_drawn_anew_for_each_epoch(tmp_path):
    source = written(tmp_path, KINDS)
    images = readable_images(source, SHAPE, cache="none")
    (positions, batch), *_ = images.batches(images.positions, len(images)).as_numpy_iterator()
    resident = readable_images(source, SHAPE, cache="memory").pixels[positions]
    assert np.abs(np.rint(255 * batch) - resident).max() == 0


@pytest.mark.skipif(not SHARED, reason="AE_SEARCH_DATA does not name the shared files")
@pytest.mark.parametrize("name", ["scan.tiff", "phone.avif"])
def test_files_that_people_have(name, tmp_path, encoders):
    path = Path(SHARED, "cases", name)
    right = Image.open(Path(SHARED, "cases", "upright.png")).convert("RGB")
    made = Image.open(io.BytesIO(for_graph(path.read_bytes(), name)))
    assert np.abs(np.asarray(made, np.float32) - np.asarray(right, np.float32)).mean() < 4
    small = Image.open(io.BytesIO(thumbnail(path.read_bytes(), name)))
    assert np.abs(np.asarray(small, np.float32) - np.asarray(right, np.float32)).mean() < 6
    for encode in encoders.values():
        found, wanted, other = encode([path, Path(SHARED, "cases", "upright.png"), encoded(coloured_picture(1))])
        assert np.linalg.norm(found - wanted) < 0.2 * np.linalg.norm(found - other)
    (seen,) = first_images(written(tmp_path, {name: path.read_bytes()}), SHAPE, 1)
    (as_png,) = first_images(written(tmp_path, {"upright.png": encoded(right)}), SHAPE, 1)
    assert np.abs(seen - as_png).mean() * 255 < 4


def cut_short():
    whole = encoded(upright((640, 480)), "JPEG")
    return {"a whole.jpg": whole, "b short.jpg": whole[:-2], "c padded.jpg": whole + bytes(64)}


def test_training_names_what_is_cut_short(tmp_path):
    source = written(tmp_path, cut_short())
    images = readable_images(source, SHAPE, cache="memory")
    assert (images.truncated, images.damaged, len(images)) == (["b short.jpg"], {}, 3)
    strict = readable_images(source, SHAPE, cache="memory", strict=True)
    assert (strict.truncated, len(strict)) == ([], 2)
    assert (
        list(strict.damaged) == ["b short.jpg"]
        and "truncated: the file ends too early" in strict.damaged["b short.jpg"]
    )


def test_a_folder_of_odd_kinds_is_a_source(tmp_path):
    coloured_picture(1).save(tmp_path / "scan.TIF")
    coloured_picture(2).save(tmp_path / "phone.avif")
    assert len(open_source(str(tmp_path))) == 2
