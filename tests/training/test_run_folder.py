"""A run folder whose JSON was written by hand, cut short or damaged is refused in one sentence."""

import json
from dataclasses import asdict, replace

import pytest

from ae_search.errors import ConfigurationError
from ae_search.training import TrainingConfig, read_config
from ae_search.training.backbone_config import BackboneConfig
from ae_search.training.run_folder import prepare_run, read_summary

CONFIG = TrainingConfig(source="photos", image_shape=(32, 32, 3), time_limit_s=60.0)
SUMMARY = {
    "epochs": 3, "best_epoch": 2, "seconds": 1.5, "loss": 0.5, "best_loss": 0.4, "monitor": "val_loss",
    "time_limit_s": None, "devices": 2, "images": 90, "held_out": 10, "damaged": {"a.jpg": "cut short"},
    "data": {"source": "photos"},
}  # fmt: skip


def config_with(**changes):
    raw = json.loads(json.dumps(asdict(CONFIG)))
    for name, value in changes.items():
        of, _, field = name.rpartition("__")
        (raw[of] if of else raw)[field] = value
    return json.dumps(raw)


def test_what_was_written_is_read(tmp_path):
    (tmp_path / "config.json").write_text(config_with())
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    assert read_config(tmp_path) == CONFIG
    assert read_summary(tmp_path) == SUMMARY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("source", 1), ("image_shape", [32, 32]), ("image_shape", [32, 32, True]), ("image_shape", "32x32"),
        ("architecture", ["gradients"]), ("architecture", "vgg"), ("latent_dim", 64.0), ("latent_dim", True),
        ("epochs", "20"), ("epochs", 2**63), ("batch_size", None), ("learning_rate", float("nan")),
        ("learning_rate", True), ("validation", "0.1"), ("seed", -1), ("seed", 0.5), ("cache", {}),
        ("time_limit_s", float("inf")), ("time_limit_s", False), ("recipe", []), ("recipe__pixels", "much"),
        pytest.param("recipe__pixels", 10**400, id="a huge weight"),
        ("recipe__features", -1.0), ("backbone", "VGG16"), ("backbone", {}), ("architecture", "backbone"),
        pytest.param("backbone", {"name": "b", "digest": "0", "feeding": "1-2", "finetune": 0}, id="feeding"),
        pytest.param("backbone", {"name": "b", "digest": "0", "feeding": "0-1", "finetune": True}, id="finetune"),
        ("recipe__partner", None), ("recipe__scaled", 1), ("recipe__moved", True), ("devices", 0), ("devices", 2.0),
        ("recipe__patches", 1.5), ("recipe__copies", "some"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_value_in_the_configuration_is_refused(tmp_path, field, value):
    (tmp_path / "config.json").write_text(config_with(**{field: value}))
    with pytest.raises(ConfigurationError, match=r"config\.json is damaged|must be"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"recipe": {}', config_with()[:-1] + ', "seed": 1}', 3000 * "[", "\xff"], ids=range(7)
)
@pytest.mark.parametrize(("name", "read"), [("config.json", read_config), ("summary.json", read_summary)])
def test_what_is_no_json_object_is_refused(tmp_path, name, read, text):
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError, match=f"{name} is damaged"):
        read(tmp_path)


def test_runs_of_earlier_releases_had_one_device(tmp_path):
    for name, text in (("config.json", config_with()), ("summary.json", json.dumps(SUMMARY))):
        raw = json.loads(text)
        del raw["devices"]
        (tmp_path / name).write_text(json.dumps(raw))
    assert read_config(tmp_path).devices == read_summary(tmp_path)["devices"] == 1


def test_a_run_with_other_fields_is_of_another_version(tmp_path):
    (tmp_path / "config.json").write_text(config_with(salt=1.0))
    with pytest.raises(ConfigurationError, match="another version of ae-search"):
        read_config(tmp_path)


@pytest.mark.parametrize("field", sorted(SUMMARY))
@pytest.mark.parametrize("value", [True, "much", [1], 10**400], ids=["true", "text", "list", "huge"])
def test_a_wrong_value_in_the_summary_is_refused(tmp_path, field, value):
    (tmp_path / "config.json").write_text(config_with())
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY | {field: value}))
    with pytest.raises(ConfigurationError, match=r"summary\.json is damaged"):
        prepare_run(tmp_path, CONFIG)


def test_a_summary_that_is_cut_short_or_missing_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="has not ended"):
        read_summary(tmp_path)
    for field in SUMMARY.keys() - {"best_epoch", "devices"}:
        (tmp_path / "summary.json").write_text(json.dumps({name: SUMMARY[name] for name in SUMMARY if name != field}))
        with pytest.raises(ConfigurationError, match=r"summary\.json is damaged"):
            read_summary(tmp_path)


def test_a_loss_beyond_all_bounds_is_still_a_figure(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY | {"loss": float("nan"), "best_loss": float("inf")}))
    assert read_summary(tmp_path)["best_loss"] == float("inf")


def test_a_run_of_before_there_was_a_fit_goes_on_cropped(tmp_path):
    """Its config.json has no such field."""
    config = TrainingConfig("made/up", (16, 16, 3), fit="crop")
    assert prepare_run(tmp_path / "run", config) is None
    path = tmp_path / "run" / "config.json"
    begun = json.loads(path.read_text())
    del begun["fit"]
    path.write_text(json.dumps(begun))
    assert read_config(tmp_path / "run") == config
    with pytest.raises(ConfigurationError, match="fit='crop' .now 'pad'"):
        prepare_run(tmp_path / "run", replace(config, fit="pad"))


def test_a_run_of_before_there_were_backbones_is_read(tmp_path):
    raw = json.loads(config_with())
    del raw["backbone"], raw["recipe"]["features"]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert read_config(tmp_path) == CONFIG


def test_the_backbone_of_a_run_is_read(tmp_path):
    backbone = BackboneConfig("b.keras", "0" * 64, "caffe", 3)
    config = replace(CONFIG, architecture="backbone", backbone=backbone)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    assert read_config(tmp_path) == config
