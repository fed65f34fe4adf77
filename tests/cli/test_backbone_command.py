"""`ae-search train` with a backbone, and the line about backbones where there is none."""

import keras
import numpy as np
import pytest
from PIL import Image
from small_backbones import convolutions, saved
from typer.testing import CliRunner

from ae_search.cli import app
from ae_search.errors import ConfigurationError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Photographs in colour, and the same in grey."""
    root = tmp_path_factory.mktemp("folders")
    rng = np.random.default_rng(0)
    for name in ("colour", "grey"):
        (root / name).mkdir()
    for at in range(12):
        pixels = rng.integers(0, 90, (48, 64, 3), np.uint8)
        pixels[..., at % 3] += 160
        Image.fromarray(pixels).save(root / "colour" / f"{at}.jpg")
        Image.fromarray(pixels[..., 0]).save(root / "grey" / f"{at}.png")
    return root


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return saved(convolutions(), tmp_path_factory.mktemp("backbone") / "b.keras")


def run(*words):
    result = CliRunner().invoke(app, ["train", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


SHORT = ("--epochs", 1, "--latent-dim", 4)


def test_a_backbone_is_told_and_its_progress_shown(folders, backbone, tmp_path, caplog):
    with caplog.at_level("INFO"):
        result = run(folders / "colour", "--run", tmp_path / "run", "--backbone", backbone, *SHORT)
    assert result.exit_code == 0
    assert f"{backbone} is fed RGB in 0-255, as its first layers want it; images are 46x46 px" in caplog.text
    assert "looking through the backbone" in result.stderr
    assert "12/12" in result.stderr
    assert "pretrained backbone" not in result.stderr
    assert result.stdout.startswith(f"{tmp_path / 'run'}: 1 of 1 epochs")
    assert (tmp_path / "run" / "reconstructions.png").is_file()


@pytest.mark.parametrize(("folder", "more", "told"), [("colour", (), True), ("grey", (), False)])
@pytest.mark.slow
def test_only_who_trains_on_coloured_photographs_is_told_of_backbones(folders, tmp_path, folder, more, told):
    words = (folders / folder, "--run", tmp_path / "run", "--image-size", "16x16", *SHORT, *more)
    assert ("--backbone EfficientNetV2B0" in run(*words).stderr) is told
    named = run(
        folders / folder, "--run", tmp_path / "named", "--image-size", "16x16", *SHORT, "--architecture", "conv"
    )
    assert "--backbone" not in named.stderr


@pytest.mark.slow
def test_pixels_are_no_photographs(tmp_path):
    result = run("digits/test", "--run", tmp_path / "run", *SHORT)
    assert "--backbone" not in result.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--backbone", "ResNet"), "ResNet50"),
        (("--backbone", "missing.keras"), "takes a .keras file. Received: missing.keras"),
        (("--finetune", 2), "--finetune goes with --backbone"),
        (("--input-range", "0-1"), "--input-range goes with --backbone"),
    ],
    ids=["unknown", "missing", "finetune", "range"],
)
def test_what_cannot_work_is_said_before_there_is_a_run(folders, tmp_path, words, text):
    with pytest.raises(ConfigurationError, match=text.replace(".", r"\.")):
        run(folders / "colour", "--run", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_range_that_nothing_says_is_given(folders, tmp_path):
    path = saved(convolutions(scaled=False), tmp_path / "b.keras")
    words = (folders / "colour", "--run", tmp_path / "run", "--backbone", path, *SHORT)
    with pytest.raises(ConfigurationError, match="--input-range"):
        run(*words)
    assert run(*words, "--input-range", "-1-1").exit_code == 0
    with pytest.raises(ConfigurationError, match=r"fed -1-1.*now .*fed 0-1"):
        run(*words, "--input-range", "0-1")


def test_a_model_of_two_inputs_is_refused(folders, tmp_path):
    first, second = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    network = keras.Model([first, second], keras.layers.Flatten()(keras.layers.Add()([first, second])))
    with pytest.raises(ConfigurationError, match="2 inputs"):
        run(folders / "colour", "--run", tmp_path / "run", "--backbone", saved(network, tmp_path / "b.keras"))
