"""A backbone's file comes from a stranger: nothing in it is run, and what is no model is refused in one sentence."""

import io
import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from ae_search.errors import ConfigurationError
from ae_search.model.backbone.loading import load_backbone


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A harmless backbone: what it is fed is said by its first layer."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(x)))
    path = tmp_path_factory.mktemp("good") / "good.keras"
    model.save(path)
    return path


def rewritten(path, into, change):
    """Copy a `.keras` file, with another config.json or another set of members."""
    members = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            members[name] = archive.read(name)
    change(members)
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return into


def with_config(edit):
    def change(members):
        config = json.loads(members["config.json"])
        edit(config)
        members["config.json"] = json.dumps(config).encode()

    return change


def activation_of(module, name):
    """Let the convolution's activation be a function of any module."""

    def edit(config):
        layer = next(one for one in config["config"]["layers"] if one["class_name"] == "Conv2D")
        layer["config"]["activation"] = {
            "module": module, "class_name": "function", "config": name, "registered_name": name,
        }  # fmt: skip

    return with_config(edit)


def class_of(module, name):
    """Let the convolution be made by a callable of any module."""

    def edit(config):
        layer = next(one for one in config["config"]["layers"] if one["class_name"] == "Conv2D")
        layer |= {"module": module, "class_name": name, "registered_name": name}

    return with_config(edit)


def test_the_harmless_one_is_loaded(good):
    assert load_backbone(str(good)).floats == 4


def test_code_in_a_lambda_is_never_run(tmp_path, victim):
    image = keras.Input((8, 8, 3), name="image")
    bait = str(victim.path)
    spoiling = layers.Lambda(lambda x: (open(bait, "w").write("run"), x)[1], output_shape=(8, 8, 3))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(spoiling(image)))
    model.save(tmp_path / "lambda.keras")
    victim = type(victim)(victim.path)  # making the model has run it
    with pytest.raises(ConfigurationError, match="Lambda with Python code in it, which is never run"):
        load_backbone(str(tmp_path / "lambda.keras"))
    victim.assert_untouched()


@pytest.mark.parametrize(
    "change",
    [
        activation_of("os", "system"),
        activation_of("builtins", "exec"),
        class_of("subprocess", "Popen"),
        class_of("shutil", "rmtree"),
    ],
    ids=["os.system", "builtins.exec", "subprocess.Popen", "shutil.rmtree"],
)
def test_callables_of_other_modules_are_refused(good, tmp_path, change):
    with pytest.raises(ConfigurationError):
        load_backbone(str(rewritten(good, tmp_path / "other.keras", change)))


def test_a_member_outside_is_written_nowhere(good, tmp_path):
    def change(members):
        members["../escaped.txt"] = b"outside"
        members["assets/../../escaped.txt"] = b"outside"

    place = tmp_path / "deep" / "deeper"
    place.mkdir(parents=True)
    path = rewritten(good, place / "outside.keras", change)
    before = sorted(tmp_path.rglob("*"))
    try:
        load_backbone(str(path))
    except ConfigurationError:
        pass
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "data", [b"", b"PK\x05\x06" + bytes(18), b"no archive at all" * 9], ids=["empty", "end", "text"]
)
def test_what_is_no_archive_is_refused(tmp_path, data):
    path = tmp_path / "broken.keras"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match="broken.keras"):
        load_backbone(str(path))


def test_a_file_cut_short_or_without_weights_is_refused(good, tmp_path):
    cut = tmp_path / "cut.keras"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    bare = rewritten(good, tmp_path / "bare.keras", lambda members: members.pop("model.weights.h5"))
    for path in (cut, bare):
        with pytest.raises(ConfigurationError, match=path.name):
            load_backbone(str(path))


def test_a_configuration_that_unpacks_to_much_more_is_refused_unread(good, tmp_path):
    bomb = rewritten(good, tmp_path / "bomb.keras", lambda members: members.update({"config.json": bytes(100 << 20)}))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(ConfigurationError, match="a config.json of at most 64 MiB"):
        load_backbone(str(bomb))


def test_weights_that_unpack_to_much_more_are_refused_unread(good, tmp_path):
    bomb = rewritten(
        good, tmp_path / "bomb.keras", lambda members: members.update({"model.weights.h5": bytes(200 << 20)})
    )
    with pytest.raises(ConfigurationError, match="model.weights.h5 .* unpacks to"):
        load_backbone(str(bomb))


def test_weights_of_other_sizes_are_refused(good, tmp_path):
    def change(members):
        other = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(5, 3), layers.GlobalAveragePooling2D()])
        target = tmp_path / "other.weights.h5"
        other.save_weights(target)
        members["model.weights.h5"] = target.read_bytes()

    with pytest.raises(ConfigurationError):
        load_backbone(str(rewritten(good, tmp_path / "mixed.keras", change)))


def test_weights_that_are_no_numbers_are_refused(good, tmp_path):
    model = keras.models.load_model(good)
    model.set_weights([np.full(one.shape, np.nan, one.dtype) for one in model.get_weights()])
    model.save(tmp_path / "nan.keras")
    with pytest.raises(ConfigurationError, match="weights that are not finite"):
        load_backbone(str(tmp_path / "nan.keras"))


def test_an_archive_with_the_same_member_twice_is_loaded_or_refused(good, tmp_path):
    path = tmp_path / "twice.keras"
    path.write_bytes(good.read_bytes())
    data = io.BytesIO(path.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(data, "a") as archive:
        archive.writestr("config.json", b"{}")
    path.write_bytes(data.getvalue())
    with pytest.raises(ConfigurationError, match="twice.keras"):
        load_backbone(str(path))
