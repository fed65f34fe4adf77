"""A part of a folder by --only, and a query with --views, as a user types them, with a model in this process."""

import json
import shutil

import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

from ae_search.cli import app
from ae_search.errors import ConfigurationError, ImageError
from ae_search.index import LatentIndex


@pytest.fixture
def run(photos, tiny_export, tmp_path, monkeypatch):
    """Run a command in a folder with photos; return what it wrote to stdout, or the text of its error."""
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)

    def run_command(*words, error=None, model=tiny_export):
        result = CliRunner().invoke(app, [*map(str, words), *(("--model", str(model)) if model else ())])
        if error is None:
            assert result.exit_code == 0, result.output
            return result.stdout
        assert isinstance(result.exception, error), result.output
        return str(result.exception)

    return run_command


def keys():
    with LatentIndex.open("i") as index:
        return sorted(index.keys())


@pytest.mark.slow
def test_a_part_of_a_folder_is_indexed_another_added_and_all_of_it_rebuilt(run, tmp_path):
    run("index", "build", "photos", "--index", "i", "--trees", "4", "--only", "image 0*", "--only", "image 10.*")
    names = [f"{'cats' if seed % 2 else 'dögs'}/image {seed:02}" for seed in range(11)]
    assert [key.rpartition(".")[0] for key in keys()] == sorted(names)
    words = ["index", "add", "photos", "--index", "i"]
    assert "2 images added, 2 were there already, 0 damaged" in run(*words, "--only", "*.PNG")
    assert "None of the 22 images of photos has a name like x* y*" in run(
        *words, "--only", "x*", "--only", "y*", error=ConfigurationError
    )
    assert len(keys()) == 13
    with LatentIndex.open("i") as index:
        assert index._snapshot().sources() == (str((tmp_path / "photos").resolve()),)
    # The images of the items are found again, and no others come in.
    before = keys()
    assert "13 images of tiny version 1" in run("index", "rebuild", "--index", "i", model=other_model(tmp_path))
    assert keys() == before


def other_model(tmp_path):
    import keras

    from ae_search.export import export_encoder
    from ae_search.model import build_encoder

    keras.utils.set_random_seed(3)
    export_encoder(build_encoder((16, 16, 3), architecture="conv", latent_dim=8), tmp_path / "other" / "tiny")
    return tmp_path / "other" / "tiny"


def test_a_part_of_a_built_in_source_is_refused(run):
    for words in (("index", "build", "digits", "--index", "i"), ("embed", "digits", "--out", "out")):
        told = run(*words, "--only", "x*", error=ConfigurationError)
        assert told == "--only chooses files of a folder. Received: x*, for digits."


@pytest.mark.slow
def test_latents_of_a_part_of_a_folder(run):
    assert "4 latents of tiny version 1 in 1 files" in run("embed", "photos", "--only", "*.GIF", "--out", "out")
    told = run("embed", "photos", "--out", "out", error=ConfigurationError)
    assert "was begun with images = 4, now it is 22" in told


@pytest.mark.slow
def test_a_mirrored_photograph_is_found_with_views(run, tmp_path):
    run("index", "build", "photos", "--index", "i", "--trees", "4")
    with Image.open("photos/cats/image 01.PNG") as picture:
        ImageOps.mirror(picture).save("mirrored.png")
    words = ["query", "mirrored.png", "--index", "i", "--json", "-k", "3", "--exact"]
    (plain,), (viewed,) = (json.loads(run(*words, *more)) for more in ((), ("--views",)))
    first = viewed["neighbours"][0]
    assert (first["rank"], first["key"], len(viewed["neighbours"])) == (1, "cats/image 01.PNG", 3)
    assert plain["neighbours"][0]["similarity"] < first["similarity"]
    # An item that is named by its key has no image to alter.
    both = json.loads(run(*words, "--views", "--key", "cats/image 01.PNG"))
    assert [one["query"] for one in both] == ["mirrored.png", "cats/image 01.PNG"]
    assert both[:1] == [viewed]
    assert both[1:] == json.loads(run("query", "--key", "cats/image 01.PNG", *words[2:], model=None))
    told = run("query", "--key", "cats/image 01.PNG", "--views", *words[2:], error=ConfigurationError)
    assert told.startswith("--views alters a PHOTO")
    assert "truncated.jpg" in run("query", "photos/cats/truncated.jpg", "--views", *words[2:], error=ImageError)


@pytest.mark.slow
def test_what_resembles_a_photograph_is_found_in_an_index_with_regions_as_in_one_without(run):
    for name, more in (("wholes", ()), ("regions", ("--regions",))):
        run("index", "build", "photos", "--index", name, "--trees", "4", *more)
    with Image.open("photos/cats/image 01.PNG") as picture:
        picture.crop((0, 0, picture.width // 2, picture.height // 2)).save("part.png")
    with LatentIndex.open("wholes") as index:
        like = ("--like", index.keys()[4])
    key = ("--key", "cats/image 01.PNG")
    for words, model in (
        (("part.png",), {}),
        (("part.png", *like), {}),
        (key, {"model": None}),
        ((*key, *like), {"model": None}),
    ):
        ask = ("query", *words, "-k", "5", "--exact", "--json", "--index")
        whole, regions = (
            [
                [(one["key"], pytest.approx(one["similarity"], abs=1e-6)) for one in row["neighbours"]]
                for row in json.loads(run(*ask, name, **model))
            ]
            for name in ("wholes", "regions")
        )
        assert whole == regions
    ask = ("query", "part.png", "--views", "--exact", "--json", "--index")
    whole, regions = (json.loads(run(*ask, name))[0]["neighbours"] for name in ("wholes", "regions"))
    assert regions != whole
