"""The SavedModel contract, with Keras as the oracle and the official tools as readers."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import coloured_picture, encoded
from tensorflow.core.protobuf import saved_model_pb2

from ae_search.contract import ModelCard
from ae_search.data.decode import decode_image
from ae_search.errors import ConfigurationError, ExportError
from ae_search.export import export_encoder, fingerprint, load_encoder, versions
from ae_search.export.adapter import AdaptedEncoder
from ae_search.export.parity import check_latents, check_parity
from ae_search.export.saved_model import _only_exporter


def card_text(signatures):
    (text,) = signatures["describe"](rows=tf.zeros(1, tf.int32))["model_card"].numpy()
    return text


@pytest.fixture(scope="module")
def signatures(tiny_export):
    loaded = tf.saved_model.load(str(tiny_export / "1"))
    return loaded, loaded.signatures


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


def test_all_signatures_answer_as_keras_does(signatures, tiny_encoder, pixels):
    _, signatures = signatures
    images = pixels.astype(np.float32) / 255.0
    expected = tiny_encoder(images, training=False).numpy()
    near = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(signatures["serving_default"](images=images)["latents"], expected, **near)
    np.testing.assert_allclose(
        signatures["encode_uint8"](images=tf.constant(pixels))["latents"], expected, rtol=1e-4, atol=1e-5
    )
    files = [encoded(coloured_picture(seed, (50, 33)), form) for seed, form in enumerate(["PNG", "JPEG", "BMP", "GIF"])]
    decoded = tf.stack([decode_image(tf.constant(file), (16, 16, 3)) for file in files])
    answer = signatures["encode_bytes"](image_bytes=tf.constant(files))["latents"]
    np.testing.assert_allclose(answer, tiny_encoder(decoded, training=False), **near)


def test_the_model_card(signatures, tiny_encoder, tiny_export):
    _, signatures = signatures
    card = ModelCard.from_json(card_text(signatures))
    assert (card.name, card.version, card.image_shape, card.latent_dim) == (tiny_export.name, 1, (16, 16, 3), 8)
    assert card.fingerprint == fingerprint(tiny_encoder, (16, 16, 3))
    assert (card.metric, card.keras, card.tensorflow) == ("angular", keras.__version__, tf.__version__)


@pytest.mark.parametrize("shape", [(16, 16, 3), (1, 8, 16, 3), (1, 16, 16, 1), (2, 16, 16), (1, 1, 16, 16, 3)])
@pytest.mark.parametrize("name", ["serving_default", "encode_uint8"])
@pytest.mark.slow
def test_every_image_input_passes_ensure_shape_first(tiny_export, name, shape):
    dtype = np.float32 if name == "serving_default" else np.uint8
    loaded = tf.saved_model.load(str(tiny_export / "1"))
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError, ValueError)):
        loaded.signatures[name](images=tf.constant(np.zeros(shape, dtype)))
    # TensorFlow Serving has no such check of its own: the graph's must stand before every other use of the input.
    wrappers = [f for f in _functions(tiny_export) if [arg.name for arg in f.signature.input_arg][:1] == ["images"]]
    bodies = [f for f in wrappers if any(node.op == "EnsureShape" for node in f.node_def)]
    assert len(bodies) >= 2
    for body in bodies:
        users = {node.op for node in body.node_def for source in node.input if source.split(":")[0] == "images"}
        assert users == {"EnsureShape"}


def _functions(export):
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString((export / "1" / "saved_model.pb").read_bytes())
    return list(proto.meta_graphs[0].graph_def.library.function)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("serving_default", {"images": np.zeros((0, 16, 16, 3), np.float32)}),
        ("encode_uint8", {"images": np.zeros((0, 16, 16, 3), np.uint8)}),
        ("encode_bytes", {"image_bytes": np.zeros(0, bytes)}),
    ],
)
def test_zero_rows_are_refused(signatures, name, inputs):
    _, signatures = signatures
    with pytest.raises(tf.errors.InvalidArgumentError, match="no image"):
        signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})


def test_decoding_is_pinned_to_the_cpu(tiny_export):
    kinds = {"DecodeImage", "DecodeJpeg", "DecodeGif", "ScaleAndTranslate"}
    decoders = [node for f in _functions(tiny_export) for node in f.node_def if node.op in kinds]
    assert {node.op for node in decoders} == kinds
    assert all("CPU:0" in node.device for node in decoders)


def test_an_undecodable_image_is_an_invalid_argument(signatures):
    _, signatures = signatures
    for bad in (b"text", b"", encoded(coloured_picture(0), "WEBP", save_all=True, append_images=[coloured_picture(1)])):
        with pytest.raises(tf.errors.InvalidArgumentError):
            signatures["encode_bytes"](image_bytes=tf.constant([encoded(coloured_picture(0)), bad]))


def test_warm_up_records_cover_each_signature_and_run(signatures, tiny_export):
    from tensorflow_serving.apis import prediction_log_pb2

    _, signatures = signatures
    path = tiny_export / "1" / "assets.extra" / "tf_serving_warmup_requests"
    seen = set()
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        rows = {len(value) for value in inputs.values()} or {0}
        assert request.model_spec.name == tiny_export.name
        signatures[request.model_spec.signature_name](**inputs)
        seen.add((request.model_spec.signature_name, rows.pop()))
    names = ("serving_default", "encode_uint8", "encode_bytes", "describe")
    assert seen == {(name, rows) for name in names for rows in (1, 32)}


def test_every_signature_can_be_joined_and_split_along_its_first_axis(signatures, tiny_export):
    """What a batching server needs: inputs with rows, and outputs with as many; `describe` asks for none."""
    _, signatures = signatures
    (graph,) = saved_model_pb2.SavedModel.FromString((tiny_export / "1" / "saved_model.pb").read_bytes()).meta_graphs
    for name in signatures:
        tensors = [*graph.signature_def[name].inputs.values(), *graph.signature_def[name].outputs.values()]
        assert len(tensors) == 2
        assert all(tensor.tensor_shape.dim[0].size == -1 for tensor in tensors)
    default = graph.signature_def["describe"].defaults["rows"]
    assert tf.make_ndarray(default).tolist() == [0]
    cards = signatures["describe"](rows=tf.zeros(3, tf.int32))["model_card"].numpy()
    assert len(cards) == 3 and len(set(cards)) == 1


@pytest.mark.slow
def test_saved_model_cli_reads_it(tiny_export):
    tool = Path(sys.executable).with_name("saved_model_cli")
    command = [sys.executable, tool, "show", "--dir", tiny_export / "1", "--tag_set", "serve"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in ("serving_default", "encode_uint8", "encode_bytes", "describe"):
        assert f'"{name}"' in shown


def test_versions_count_up_and_nothing_is_overwritten(tiny_encoder, tmp_path):
    base = tmp_path / "tiny"
    (base / "7").mkdir(parents=True)
    (base / "v9").mkdir()
    assert export_encoder(tiny_encoder, base).name == "8"
    assert not list((base / "7").iterdir())
    assert versions(base) == [7, 8]
    assert {path.name for path in base.iterdir()} == {"7", "8", "v9", ".lock"}


def test_the_next_version_is_above_the_newest_that_a_server_sees(tiny_encoder, tmp_path):
    base = tmp_path / "tiny"
    (base / "1000000000000000000").mkdir(parents=True)
    (base / "99999999999999999999").mkdir()  # no server counts so far
    assert export_encoder(tiny_encoder, base).name == "1000000000000000001"
    (base / str(2**63 - 1)).mkdir()
    with pytest.raises(ConfigurationError, match="no number is higher"):
        export_encoder(tiny_encoder, base)


def test_a_failed_export_leaves_nothing(tiny_encoder, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("ae_search.export.saved_model.write_warmup", fail)
    with pytest.raises(ExportError, match="tiny/1: the disk is full; make room"):
        export_encoder(tiny_encoder, tmp_path / "tiny")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert export_encoder(tiny_encoder, tmp_path / "tiny").name == "1"
    monkeypatch.setattr("ae_search.export.saved_model.write_warmup", fail)
    with pytest.raises(ExportError, match="tiny/2: the disk is full"):
        export_encoder(tiny_encoder, tmp_path / "tiny")
    assert {path.name for path in (tmp_path / "tiny").iterdir()} == {"1", ".lock"}


def test_an_export_that_waits_for_one_that_fails_gets_a_folder_of_its_own(tmp_path):
    base, begun, end = tmp_path / "new", threading.Event(), threading.Event()

    def fail():
        with pytest.raises(RuntimeError), _only_exporter(base):
            begun.set()
            end.wait(60)
            raise RuntimeError

    def succeed():
        with _only_exporter(base):
            (base / "1").mkdir()

    first, second = threading.Thread(target=fail), threading.Thread(target=succeed)
    first.start()
    begun.wait(60)
    second.start()
    end.set()
    first.join(60)
    second.join(60)
    assert {path.name for path in base.iterdir()} == {"1", ".lock"}


def test_a_place_that_cannot_be_written_is_said(tiny_encoder, tmp_path):
    (tmp_path / "tiny" / ".lock").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="Cannot write"):
        export_encoder(tiny_encoder, tmp_path / "tiny")


def test_the_parity_check_can_fail(tiny_encoder, tiny_export):
    card = ModelCard.from_json(
        tf.saved_model.load(str(tiny_export / "1"))
        .signatures["describe"](rows=tf.zeros(1, tf.int32))["model_card"]
        .numpy()
        .item()
    )
    other = AdaptedEncoder.of(keras.models.clone_model(tiny_encoder), None, None)
    with pytest.raises(ExportError, match="differs from Keras"):
        check_parity(other, check_latents(other), card, tiny_export / "1")


def test_the_fingerprint_depends_on_weights_and_shape_alone(tiny_encoder, tmp_path):
    shape = (16, 16, 3)
    tiny_encoder.save(tmp_path / "encoder.keras")
    again = load_encoder(tmp_path / "encoder.keras")
    assert fingerprint(again, shape) == fingerprint(tiny_encoder, shape)
    weights = again.get_weights()
    weights[-1] = weights[-1] + 1e-3
    again.set_weights(weights)
    assert fingerprint(again, shape) != fingerprint(tiny_encoder, shape)


def test_any_keras_model_from_images_to_vectors_can_be_exported(tmp_path):
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(2.0, offset=-1.0)(image)
    vectors = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3)(x))
    keras.Model(image, vectors).save(tmp_path / "own.keras")
    own = load_encoder(tmp_path / "own.keras")
    with pytest.raises(ConfigurationError, match="--image-size"):
        export_encoder(own, tmp_path / "own")
    folder = export_encoder(own, tmp_path / "own", image_shape=(24, 32, 3), metric="euclidean")
    card = json.loads(
        tf.saved_model.load(str(folder)).signatures["describe"](rows=tf.zeros(1, tf.int32))["model_card"].numpy().item()
    )
    assert (card["image_shape"], card["latent_dim"], card["metric"]) == ([24, 32, 3], 6, "euclidean")


def test_what_cannot_be_exported_is_said(tmp_path):
    image = keras.Input((16, 16, 3))
    maps = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(ConfigurationError, match="Flatten"):
        export_encoder(maps, tmp_path / "maps")
    words = keras.Input((10,))
    with pytest.raises(ConfigurationError, match="must take images"):
        export_encoder(keras.Model(words, keras.layers.Dense(3)(words)), tmp_path / "words")
    (tmp_path / "text.keras").write_text("no zip")
    for path in (tmp_path / "text.keras", tmp_path / "missing.keras", tmp_path):
        with pytest.raises(ConfigurationError):
            load_encoder(path)


@pytest.mark.slow
def test_a_saved_default_encoder_can_be_exported_by_a_process_that_never_trained(tmp_path):
    from ae_search.model import build_encoder

    build_encoder((16, 16, 3), latent_dim=4).save(tmp_path / "encoder.keras")
    command = [sys.executable, "-m", "ae_search", "export", "--encoder", str(tmp_path / "encoder.keras")]
    done = subprocess.run([*command, "--to", str(tmp_path / "mine")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
