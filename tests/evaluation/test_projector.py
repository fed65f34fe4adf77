"""The export for the Embedding Projector, read back by TensorBoard's own plugin."""

import json
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from synthetic_evaluation import bomb, evaluation, picture, sample

from ae_search.errors import ConfigurationError
from ae_search.evaluation.report.projector import write_projector
from ae_search.evaluation.shown import LatentSample

FILES = {"latents.tsv", "metadata.tsv", "sprite.png", "projector_config.pbtxt"}


@pytest.fixture
def written(tmp_path):
    return write_projector(evaluation(), tmp_path / "projector")


@pytest.fixture
def ask():
    """Return a function that sends a request to the plugin as TensorBoard's server does; no network."""
    pytest.importorskip("tensorboard")
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
    from werkzeug.test import Client

    def send(folder, route, **arguments):
        runs = SimpleNamespace(list_runs=lambda *args, **kwargs: [])
        plugin = ProjectorPlugin(SimpleNamespace(logdir=str(folder), data_provider=runs))
        answer = Client(plugin.get_plugin_apps()[route]).get(f"{route}?{urlencode(arguments)}")
        assert answer.status_code == 200, answer.data
        return answer

    return send


def rows(folder):
    """The metadata as the projector's page reads it: lines without the blank ones, then cells."""
    lines = (folder / "metadata.tsv").read_bytes().decode().split("\n")
    return [line.split("\t") for line in lines if line.strip()]


def test_there_are_four_files_and_the_plugin_reads_the_configuration(written):
    pytest.importorskip("tensorboard")
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    assert {path.name for path in written.iterdir()} == FILES
    config = text_format.Parse((written / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    assert (embedding.tensor_path, embedding.metadata_path) == ("latents.tsv", "metadata.tsv")
    assert list(embedding.tensor_shape) == [40, 6]
    assert (embedding.sprite.image_path, list(embedding.sprite.single_image_dim)) == ("sprite.png", [28, 28])


def test_the_plugin_serves_it_over_http(written, ask):
    assert json.loads(ask(written, "/runs").data) == ["."]
    told = json.loads(ask(written, "/info", run=".").data)
    assert told["embeddings"][0]["tensorShape"] == [40, 6]
    tensor = np.frombuffer(ask(written, "/tensor", run=".", name="latents").data, np.float32).reshape(40, 6)
    assert np.array_equal(tensor, sample().latents)
    metadata = ask(written, "/metadata", run=".", name="latents").data.decode().splitlines()
    assert metadata[:2] == ["label\tkey", "bag\titem 0"] and len(metadata) == 41
    sprite = ask(written, "/sprite_image", run=".", name="latents")
    assert sprite.mimetype == "image/png"
    assert sprite.data == (written / "sprite.png").read_bytes()


def test_each_picture_is_where_the_projector_looks_for_it(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    files = []
    for at, colour in enumerate(colours):
        Image.new("RGB", (20, 10), colour).save(tmp_path / f"{at}.png")
        files.append((tmp_path / f"{at}.png").read_bytes())
    made = sample(5)
    pictures = (files[0], files[1], None, files[3], files[4])
    made = evaluation(latents=replace(made, pictures=pictures), image_shape=(10, 20, 3))
    folder = write_projector(made, tmp_path / "projector")
    with Image.open(folder / "sprite.png") as sprite:
        assert sprite.size == (60, 30)
        middles = [sprite.getpixel((at % 3 * 20 + 10, at // 3 * 10 + 5)) for at in range(9)]
    black = (0, 0, 0)
    expected = [*colours[:2], black, *colours[3:], black, black, black, black]
    assert np.abs(np.array(middles) - np.array(expected)).max() < 8


@pytest.mark.parametrize(
    ("shape", "count", "cell"),
    [
        ((28, 28, 1), 5, (28, 28)),
        ((224, 224, 3), 5, (64, 64)),
        ((100, 300, 3), 5, (64, 21)),
        ((64, 64, 3), 20_000, (57, 57)),
    ],
)
def test_pictures_are_small_enough_for_one_sprite(tmp_path, shape, count, cell):
    latents = np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32)
    made = LatentSample(latents, ("key",) * count, ("bag",) * count, (picture(),) + (None,) * (count - 1))
    folder = write_projector(evaluation(latents=made, image_shape=shape), tmp_path / "projector")
    config = (folder / "projector_config.pbtxt").read_text()
    assert all(f"single_image_dim: {side}" in config for side in cell)
    with Image.open(folder / "sprite.png") as sprite:
        columns = int(np.ceil(np.sqrt(count)))
        assert sprite.size == (columns * cell[0], columns * cell[1])
        assert max(sprite.size) <= 8192


def test_names_of_strangers_stay_in_their_cells(tmp_path, ask):
    names = ["a\tb", "a\nb\r\nc", "\x00\x1b\u2028\u202e", "", "   ", "\ud800", 'q"uote', "<b>", "long " * 1000, "名前"]
    made = replace(sample(10), keys=tuple(names), labels=(*names[:9], None))
    folder = write_projector(evaluation(latents=made), tmp_path / "projector")
    read = rows(folder)
    assert len(read) == 11 and all(len(row) == 2 and all(cell.strip() for cell in row) for row in read)
    assert read[1] == ["a b", "a b"] and read[2] == ["a b c", "a b c"]
    assert read[4] == ["(no label)", "(blank)"] and read[10] == ["(no label)", "名前"]
    assert max(len(cell) for row in read for cell in row) <= 200
    assert ask(folder, "/metadata", run=".", name="latents").data.decode().count("\n") == 11


def test_pictures_that_are_none_leave_black_or_no_sprite(tmp_path):
    made = evaluation()
    hostile = evaluation(latents=replace(made.latents, pictures=(bomb(), b"text", b"", None) * 10))
    folder = write_projector(made, tmp_path / "projector")
    assert write_projector(hostile, folder) == folder
    assert {path.name for path in folder.iterdir()} == FILES - {"sprite.png"}
    assert "sprite" not in (folder / "projector_config.pbtxt").read_text()


def test_latents_that_are_no_numbers_are_left_out_with_their_names(tmp_path):
    made = sample(5)
    made.latents[1, 2], made.latents[3, 0] = np.nan, np.inf
    folder = write_projector(evaluation(latents=made), tmp_path / "projector")
    assert [row[1] for row in rows(folder)] == ["key", "item 0", "item 2", "item 4"]
    assert "tensor_shape: 3" in (folder / "projector_config.pbtxt").read_text()


def test_an_earlier_export_is_replaced(written):
    write_projector(evaluation(latents=sample(7)), written)
    assert len(rows(written)) == 8
    assert {path.name for path in written.iterdir()} == FILES


@pytest.mark.parametrize("stranger", ["notes.txt", "metadata.tsv", "events.out.tfevents.1"])
def test_a_folder_with_something_else_is_refused(tmp_path, stranger):
    (tmp_path / stranger).write_text("mine")
    with pytest.raises(ConfigurationError, match=f"holds '{stranger}' and is no projector export; choose another"):
        write_projector(evaluation(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [stranger]
    assert (tmp_path / stranger).read_text() == "mine"


def test_an_export_with_something_beside_it_is_refused(written):
    (written / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="holds 'mine.txt'"):
        write_projector(evaluation(), written)


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is a file"):
        write_projector(evaluation(), tmp_path / "file")


@pytest.mark.parametrize(("count", "dim"), [(0, 6), (5, 1)])
def test_nothing_to_show_is_told(tmp_path, count, dim):
    with pytest.raises(ConfigurationError, match=f"Received: {count} of {dim}; leave this export out"):
        write_projector(evaluation(latents=sample(count, dim)), tmp_path / "projector")
    assert not (tmp_path / "projector").exists()
