"""`ae-search export --encoder` as a user types it: files, modules of the user's own, refusals in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from keras import layers
from test_own_encoders import PIXELS, body, check, functional, model
from typer.testing import CliRunner

from ae_search.cli import app
from ae_search.errors import AeSearchError
from ae_search.model_server import LocalEncoder

pytestmark = pytest.mark.slow

MODULE = """
import keras

@keras.saving.register_keras_serializable("shop")
class Sharpened(keras.layers.Layer):
    def call(self, images):
        return images * 1.5 - keras.ops.mean(images, axis=(1, 2), keepdims=True) * 0.5

class Plain(keras.layers.Layer):
    def call(self, images):
        return images * 0.5

@keras.saving.register_keras_serializable("shop")
class Whole(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.rescale, self.flat = keras.layers.Rescaling(1 / 255), keras.layers.Flatten()
        self.dense = keras.layers.Dense(4)

    def call(self, images):
        return {"latents": self.dense(self.flat(self.rescale(images)))}
"""
# Saves encoders with those classes, and what they themselves predict.
WRITE = """
import keras, numpy as np, shop_layers
keras.utils.set_random_seed(1)
shape = (24, 20, 3)
pixels = np.load("pixels.npy").astype(np.float32)
image = keras.Input(shape)

def save(name, encoder, values):
    answer = encoder.predict(values, verbose=0)
    encoder.save(f"{name}.keras")
    np.save(f"{name}.npy", answer["latents"] if isinstance(answer, dict) else answer)

def ended(x):
    return keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(x)))

save("registered", ended(shop_layers.Sharpened()(image)), pixels / 255)
save("plain", ended(shop_layers.Plain()(image)), pixels / 255)
save("whole", shop_layers.Whole(), pixels)
save("lambda", ended(keras.layers.Lambda(lambda x: x * 2)(image)), pixels / 255)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with modules, and encoders that another process saved with their classes."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop_layers.py").write_text(MODULE)
    (folder / "shop_empty.py").write_text("")
    (folder / "shop_broken.py").write_text("raise RuntimeError('two\\nlines')")
    np.save(folder / "pixels.npy", PIXELS)
    subprocess.run([sys.executable, "-c", WRITE], cwd=folder, check=True, timeout=250)
    return folder


def ae_search(folder, *words):
    """Run the installed command in a process of its own; unlike `python -m` it has no current folder on its path."""
    tool = Path(sys.executable).with_name("ae-search")
    return subprocess.run([tool, *words], cwd=folder, capture_output=True, text=True, timeout=250, check=False)


def invoke(*words):
    return CliRunner().invoke(app, ["export", *map(str, words)])


def refused(*words):
    """Return the error's text; it is one line."""
    error = invoke(*words).exception
    assert isinstance(error, AeSearchError) and "\n" not in str(error)
    return str(error)


def test_what_is_fed_is_said_on_stderr_and_read_back(tmp_path):
    encoder = model(layers.Rescaling(1 / 255), dtype="uint8")
    encoder.save(tmp_path / "bytes.keras")
    done = ae_search(tmp_path, "export", "--encoder", "bytes.keras", "--to", "own")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "exported own/1\n"
    assert done.stderr.splitlines() == ["INFO The encoder is fed uint8 images in 0-255, as whole numbers are."]
    check(tmp_path / "own", encoder, "0-255", dtype="uint8")


@pytest.mark.parametrize("asked", ["0-255", "-1-1"])
def test_the_range_can_be_told_and_a_dict_of_one_output_is_taken(asked, tmp_path):
    encoder = functional(lambda x: {"latents": body(x)})
    encoder.save(tmp_path / "own.keras")
    done = invoke("--encoder", tmp_path / "own.keras", "--to", tmp_path / "own", "--input-range", asked)
    assert done.exit_code == 0, done.exception
    check(tmp_path / "own", encoder, asked)


@pytest.mark.parametrize(
    ("size", "told"), [("24x20", (24, 20, 3)), ("24x20x1", (24, 20, 1)), (None, None), ("9x9", None)]
)
def test_an_open_shape_is_told(size, told, tmp_path):
    layers_ = [layers.Conv2D(4, 12), layers.GlobalAveragePooling2D()]
    functional(lambda x: layers_[1](layers_[0](x)), (None, None, told[2] if told else 3)).save(tmp_path / "open.keras")
    words = ["--image-size", size] if size else []
    done = invoke("--encoder", tmp_path / "open.keras", "--to", tmp_path / "own", *words)
    if told:
        assert done.exit_code == 0, done.exception
        assert LocalEncoder(tmp_path / "own").describe().image_shape == told
    else:
        assert isinstance(done.exception, AeSearchError)
        assert not (tmp_path / "own").exists()


@pytest.mark.parametrize(
    ("file", "option"),
    [
        ("registered", "shop_layers"),
        ("registered", "shop_layers:Sharpened"),
        ("plain", "shop_layers:Plain"),
        ("whole", "shop_layers"),
    ],
)
def test_classes_of_the_current_folder_are_named(shop, file, option, tmp_path):
    words = ["--encoder", f"{file}.keras", "--to", str(tmp_path / "own"), "--custom-objects", option]
    done = ae_search(shop, "export", *words)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(LocalEncoder(tmp_path / "own").encode(PIXELS), np.load(shop / f"{file}.npy"), atol=1e-4)


# In this process, which never imports shop_layers.
@pytest.mark.parametrize(
    ("file", "options", "told"),
    [
        ("registered", [], ["'Sharpened'", "--custom-objects MODULE:Sharpened", "export_encoder"]),
        ("plain", ["shop_empty"], ["'Plain'", "--custom-objects MODULE:Plain", "export_encoder"]),
        ("whole", [], ["'Whole'", "--custom-objects MODULE:Whole", "export_encoder"]),
        ("lambda", ["shop_empty"], ["Lambda", "never run", "export_encoder"]),
        ("registered", ["no_such_module"], ["no_such_module", "MODULE:NAME"]),
        ("registered", ["shop_empty:Missing"], ["Missing", "MODULE:NAME"]),
        ("registered", ["shop_broken"], ["two lines", "MODULE:NAME"]),
        ("registered", [":Sharpened"], ["MODULE:NAME"]),
        ("registered", [".shop_empty"], ["MODULE:NAME"]),
    ],
)
def test_a_class_that_is_not_named_is_refused_in_one_line(shop, file, options, told, tmp_path, monkeypatch):
    monkeypatch.chdir(shop)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = [word for option in options for word in ("--custom-objects", option)]
    text = refused("--encoder", f"{file}.keras", "--to", tmp_path / "own", *words)
    for word in told:
        assert word in text
    assert not list(tmp_path.iterdir())


def test_a_refused_encoder_leaves_one_line_and_no_folder(tmp_path):
    functional(lambda x: {"a": body(x), "b": layers.Flatten()(x)}).save(tmp_path / "own.keras")
    done = ae_search(tmp_path, "export", "--encoder", "own.keras", "--to", "own")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("error: The encoder must return one output")
    assert {path.name for path in tmp_path.iterdir()} == {"own.keras"}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: functional(lambda x: layers.Conv2D(2, 3)(x)), "GlobalAveragePooling2D"),
        (lambda: functional(lambda x: layers.Rescaling(0.0, offset=1.0)(body(x))), "same latent"),
        (lambda: functional(lambda x: layers.GlobalMaxPooling2D()(x), (None, None, 3)), "--image-size"),
    ],
)
def test_other_refusals_leave_no_folder(make, told, tmp_path):
    make().save(tmp_path / "own.keras")
    assert told in refused("--encoder", tmp_path / "own.keras", "--to", tmp_path / "own")
    assert {path.name for path in tmp_path.iterdir()} == {"own.keras"}


@pytest.mark.parametrize("option", ["--image-size=24x20", "--input-range=0-1", "--custom-objects=json"])
def test_options_of_own_encoders_do_not_go_with_a_run(option, tmp_path):
    assert "goes with --encoder" in refused(tmp_path, "--to", tmp_path / "own", option)


def test_the_help_says_that_a_module_is_run():
    assert "which is imported and run" in " ".join(invoke("--help").output.replace("│", " ").split())
