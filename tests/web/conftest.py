"""One model server, one index and one service for all tests of the service that change nothing."""

import shutil

import pytest
from build_options import build_options
from live import Own, options_of, running
from pictures import coloured_picture, encoded
from shapes_encoder import Shapes, gratings
from web_items import COUNT, key, label, metadata, picture

from ae_search.calibration import calibrate
from ae_search.client import LatentClient
from ae_search.image_file import thumbnail
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.web import AccessKeys, Doors, Served


@pytest.fixture(scope="session")
def pictures():
    """The files that are indexed."""
    return [picture(at) for at in range(COUNT)]


@pytest.fixture(scope="session")
def model_address(tiny_encoder, tmp_path_factory):
    """A model server of the tiny encoder and a decoder."""
    import keras

    from ae_search.export import export_encoder
    from ae_search.model import build_decoder
    from ae_search.model_server import ModelServer

    keras.utils.set_random_seed(4)
    base = tmp_path_factory.mktemp("decoding") / "tiny"
    export_encoder(tiny_encoder, base, decoder=build_decoder((16, 16, 3), latent_dim=8))
    with ModelServer(base) as server:
        yield server.address


@pytest.fixture(scope="session")
def web_index(model_address, pictures, tmp_path_factory):
    """An index of the pictures: keys like paths, labels of which some are missing, metadata, thumbnails but for one."""
    path = tmp_path_factory.mktemp("web") / "index"
    with LatentClient(model_address, "tiny") as client:
        with IndexBuilder(path, client.describe(), build_options(5)) as builder:
            builder.add(
                client.encode_files(pictures),
                [key(at) for at in range(COUNT)],
                [label(at) for at in range(COUNT)],
                metadata=[metadata(at) for at in range(COUNT)],
                thumbnails=[None if at == 5 else thumbnail(one, "one") for at, one in enumerate(pictures)],
                digests=[None] * COUNT,
            )
    with LatentIndex.open(path) as index:
        calibrate(index)
    return path


@pytest.fixture(scope="session")
def served(model_address):
    return Served(model_address, "tiny")


@pytest.fixture(scope="session")
def web_options(web_index, served, tmp_path_factory):
    return options_of(web_index, served, tmp_path_factory.mktemp("uploads"))


@pytest.fixture(scope="session")
def plain_http(tmp_path_factory):
    """A client of a service whose model has no decoder, over an index that keeps nothing to compare queries with."""
    folder, encoder = tmp_path_factory.mktemp("plain"), Shapes(decodes=False)
    with IndexBuilder(folder / "index", encoder.describe(), build_options(5)) as builder:
        builder.add(encoder.encode(gratings(30)), [key(at) for at in range(30)])
    with running(options_of(folder / "index", Own(encoder), folder / "uploads")) as client:
        yield client


@pytest.fixture(scope="session")
def http(web_options):
    """A client of a service that only reads, without keys."""
    with running(web_options) as client:
        yield client


@pytest.fixture
def own_index(web_index, tmp_path):
    """A copy of the index, to be changed."""
    return shutil.copytree(web_index, tmp_path / "index")


@pytest.fixture
def writing(own_index, served, tmp_path):
    """A client of a service over that copy which whoever reads may change."""
    doors = Doors(keys=AccessKeys(open_writes=True))
    with running(options_of(own_index, served, tmp_path / "uploads", doors=doors)) as client:
        yield client


@pytest.fixture(scope="session")
def oracle(model_address, web_index):
    """What Python finds."""
    from ae_search import ImageSearch

    with LatentClient(model_address, "tiny") as client, LatentIndex.open(web_index) as index:
        yield ImageSearch(client, index)


@pytest.fixture(scope="session")
def strange():
    """A picture that is not indexed."""
    return encoded(coloured_picture(1000, (64, 48)))


@pytest.fixture(scope="session")
def writing_shared(web_index, served, tmp_path_factory):
    """A client of a service that may be changed but is not, and its index."""
    folder = tmp_path_factory.mktemp("writing")
    place = shutil.copytree(web_index, folder / "index")
    doors = Doors(keys=AccessKeys(open_writes=True))
    with running(options_of(place, served, folder / "uploads", doors=doors)) as client:
        yield client, place
