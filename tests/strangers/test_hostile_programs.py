"""A SavedModel is a program: what could do more than compute is refused before anything of it runs."""

import os
import shutil
import stat
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from bounded import run_bounded
from hostile_programs import changed, function, write_model
from keras import layers
from tensorflow.python.framework import op_def_registry

from ae_search.client import LatentClient
from ae_search.errors import ExportError
from ae_search.export import export_encoder
from ae_search.model import build_encoder
from ae_search.model_server import LocalEncoder, ModelServer
from ae_search.model_server import program as program_module
from ae_search.model_server.operations import ALLOWED, RESTORING, SAVING
from ae_search.model_server.program import check_program

KINDS = ("describe", "branch", "loop", "encode", "create", "initialise", "restore")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("good") / "1")


@pytest.fixture
def model(good, tmp_path):
    """A harmless version folder of the test's own."""
    return shutil.copytree(good, tmp_path / "export" / "1")


def test_a_harmless_model_is_loaded(good):
    assert LocalEncoder(good).encode(np.zeros((2, 2, 2, 3))).shape == (2, 12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_writes_a_file_is_refused(kind, victim, tmp_path):
    base = tmp_path / "export"
    write_model(base / "1", kind, victim.path)
    victim = type(victim)(victim.path)  # making the model may have run it
    with pytest.raises(ExportError, match="contains the operation 'WriteFile' .*--trust"):
        LocalEncoder(base).describe()
    with pytest.raises(ExportError, match="WriteFile"):
        ModelServer(base).start()
    victim.assert_untouched()


@pytest.mark.parametrize("kind", KINDS)
def test_a_trusted_model_does_as_it_likes(kind, tmp_path):
    """What the others are refused for does happen."""
    bait = tmp_path / "bait"
    write_model(tmp_path / "export" / "1", kind, bait)
    bait.unlink(missing_ok=True)
    encoder = LocalEncoder(tmp_path / "export", trust=True)
    encoder.describe()
    assert bait.read_text() == "written by a model"
    assert encoder.at_version(1) is encoder


def test_trust_goes_with_the_versions_of_an_encoder(model, tmp_path):
    bait = tmp_path / "bait"
    write_model(model.parent / "2", "describe", bait)
    with pytest.raises(ExportError, match="2 contains"):
        LocalEncoder(model).at_version(2)
    assert LocalEncoder(model, trust=True).at_version(2).version == 2


def test_a_version_that_appears_is_refused_and_the_old_one_stays(model, victim, tmp_path):
    with ModelServer(model.parent, poll_interval_s=0.05) as server:
        hidden = write_model(tmp_path / "hidden", "initialise", tmp_path / "bait")
        hidden.rename(model.parent / "2")
        (tmp_path / "bait").unlink(missing_ok=True)
        with LatentClient(server.address, "export", timeout_s=30) as client:
            until = time.monotonic() + 60
            while not (errors := [one.error for one in client.status() if one.version == 2 and one.error]):
                assert time.monotonic() < until
                time.sleep(0.05)
            assert "WriteFile" in errors[0] and client.describe().version == 1
    assert not (tmp_path / "bait").exists()


STRANGE = """
    WriteFile ReadFile MatchingFiles PyFunc PyFuncStateless EagerPyFunc ImmutableConst PrintV2 Print Abort
    Save SaveV2 SaveSlices Restore RestoreV2 RestoreSlice MergeV2Checkpoints ShardedFilename LoadAndRemapMatrix
    GenerateVocabRemapping DecodeProtoV2 EncodeProto InitializeTableFromTextFileV2 FixedUnigramCandidateSampler
    WholeFileReaderV2 TFRecordReaderV2 TextLineReaderV2 LMDBReader RecordInput TextLineDataset TFRecordDataset
    FixedLengthRecordDatasetV2 SqlDataset SaveDatasetV2 LoadDataset DatasetToTFRecord MapDataset TensorDataset
    CreateSummaryFileWriter WriteSummary DebugIdentity DebugIdentityV2 DebugNumericSummary DumpTensor RemoteCall RpcCall
    RpcServer Send Recv _Send _HostRecv CollectiveReduceV2 NcclAllReduce XlaHostCompute XlaCallModule XlaLaunch
    FileSystemSetConfiguration FIFOQueueV2 Stage ConfigureDistributedTPU GetSessionTensor ParseTensor SymbolicGradient
    OperationOfAPlugin
""".split()


def add(nodes, op):
    node = nodes.node_def.add() if hasattr(nodes, "node_def") else nodes.node.add()
    node.name, node.op = "strange", op
    return node


@pytest.mark.parametrize("op", STRANGE)
def test_operations_that_reach_further(model, op):
    changed(model, lambda graph: add(function(graph, "__inference_describe"), op))
    with pytest.raises(ExportError, match=rf"contains the operation '{op}' \(in signature 'describe'\)"):
        check_program(model)


def test_a_node_of_the_graph_itself(model):
    changed(model, lambda graph: add(graph.graph_def, "ReadFile"))
    with pytest.raises(ExportError, match=r"'ReadFile' \(node 'strange'\)"):
        check_program(model)


def test_a_function_that_nothing_calls(model):
    def change(graph):
        made = graph.graph_def.library.function.add()
        made.signature.name = "idle"
        add(made, "WriteFile")

    changed(model, change)
    with pytest.raises(ExportError, match=r"'WriteFile' \(in function 'idle'\)"):
        check_program(model)


def test_no_function_stands_in_for_an_operation(model):
    def change(graph):
        graph.graph_def.library.function.add().signature.name = "WriteFile"
        add(function(graph, "__inference_describe"), "WriteFile")

    changed(model, change)
    with pytest.raises(ExportError, match="'WriteFile'"):
        check_program(model)


def test_a_function_called_by_its_name(model):
    def change(graph):
        graph.graph_def.library.function.add().signature.name = "own"
        add(function(graph, "__inference_describe"), "own")

    check_program(changed(model, change))


def test_a_function_that_is_not_there(model):
    def change(graph):
        node = add(function(graph, "__inference_describe"), "PartitionedCall")
        node.attr["f"].func.attr["inner"].list.func.add().name = "elsewhere"
        node.attr["f"].func.name = graph.graph_def.library.function[0].signature.name

    changed(model, change)
    with pytest.raises(ExportError, match="the function 'elsewhere', which it does not have"):
        check_program(model)


@pytest.mark.parametrize("dtype", [tf.resource, tf.variant])
def test_a_forged_pointer(model, dtype):
    def change(graph):
        node = add(function(graph, "__inference_describe"), "Const")
        node.attr["value"].tensor.dtype = dtype.as_datatype_enum

    changed(model, change)
    with pytest.raises(ExportError, match="'Const'"):
        check_program(model)


def saver_node(graph, role):
    name = {"save": graph.saver_def.save_tensor_name, "restore": graph.saver_def.restore_op_name}[role].split(":")[0]
    return next(node for node in graph.graph_def.node if node.name == name)


def call(nodes, called):
    node = add(nodes, "StatefulPartitionedCall")
    node.attr["f"].func.name = called.signature.name


def restore_elsewhere(graph):
    (node,) = [node for node in function(graph, "traced_restore").node_def if node.op == "RestoreV2"]
    node.input[0] = "RestoreV2/tensor_names:output:0"


def prefix_of_its_own(graph):
    next(node for node in graph.graph_def.node if node.name == "saver_filename").op = "Const"


def saver_that_is_a_signature(graph):
    add(function(graph, "__inference_describe"), "SaveV2")
    graph.saver_def.save_tensor_name = graph.signature_def["describe"].outputs["model_card"].name


def saver_for_the_initialiser(graph):
    graph.collection_def["saved_model_main_op"].node_list.value.append(saver_node(graph, "save").name)


def saver_as_input(graph):
    add(graph.graph_def, "NoOp").input.append("^" + saver_node(graph, "save").name)


def saver_as_output(graph):
    graph.signature_def["describe"].outputs["model_card"].name = graph.saver_def.save_tensor_name


def object_that_saves(graph):
    made = graph.object_graph_def.nodes.add()
    made.bare_concrete_function.concrete_function_name = function(graph, "traced_save").signature.name


def same_function_twice(graph):
    saver_node(graph, "restore").attr["f"].func.name = function(graph, "traced_save").signature.name


ABUSES = {
    "restore writes": lambda graph: add(function(graph, "traced_restore"), "WriteFile"),
    "restore saves": lambda graph: add(function(graph, "traced_restore"), "SaveV2"),
    "save writes": lambda graph: add(function(graph, "traced_save"), "WriteFile"),
    "describe saves": lambda graph: call(function(graph, "__inference_describe"), function(graph, "traced_save")),
    "graph saves": lambda graph: call(graph.graph_def, function(graph, "traced_save")),
    "restore of another file": restore_elsewhere,
    "prefix of its own": prefix_of_its_own,
    "saver that is a signature": saver_that_is_a_signature,
    "saver for the initialiser": saver_for_the_initialiser,
    "saver as input": saver_as_input,
    "saver as output": saver_as_output,
    "object that saves": object_that_saves,
    "same function twice": same_function_twice,
}


@pytest.mark.parametrize("abuse", ABUSES)
def test_the_saver_saves_and_restores_for_nobody_else(model, abuse):
    changed(model, ABUSES[abuse])
    with pytest.raises(ExportError, match="contains the operation '(WriteFile|SaveV2|RestoreV2|ShardedFilename|Merge)"):
        check_program(model)


def link_outside(model, outside):
    (model / "assets.extra").mkdir()
    (model / "assets.extra" / "x").symlink_to(outside)


def weights_outside(model, outside):
    shutil.move(model / "variables", model.parent / "other")
    (model / "variables").symlink_to(model.parent / "other")


def pipe(model, outside):
    os.remove(model / "variables" / "variables.index")
    os.mkfifo(model / "variables" / "variables.index")


def graph_that_is_a_device(model, outside):
    os.remove(model / "saved_model.pb")
    (model / "saved_model.pb").symlink_to("/dev/zero")


def graph_as_text(model, outside):
    (model / "saved_model.pb").rename(model / "saved_model.pbtxt")


def graph_in_parts(model, outside):
    (model / "saved_model.cpb").write_bytes(b"")


def huge_graph(model, outside):
    os.truncate(model / "saved_model.pb", program_module.MAX_GRAPH_BYTES + 1)


def no_graph(model, outside):
    (model / "saved_model.pb").write_bytes(b"\xff" * 100)


FOLDERS = {
    link_outside: "leads out of it",
    weights_outside: "'variables' is a link",
    pipe: "no regular file",
    graph_that_is_a_device: "leads out of it",
    graph_as_text: "saved_model.pbtxt; expected its graph in saved_model.pb alone",
    graph_in_parts: "saved_model.cpb",
    huge_graph: "33 MiB|32 MiB",
    no_graph: "cannot be loaded as a SavedModel",
}


@pytest.mark.parametrize("fault", FOLDERS)
def test_folders_that_are_more_than_files(model, victim, fault):
    fault(model, victim.path)
    with pytest.raises(ExportError, match=FOLDERS[fault]):
        check_program(model)


def test_links_within_a_version_and_to_one(model, tmp_path):
    (model / "variables" / "variables.index").rename(model / "elsewhere")
    (model / "variables" / "variables.index").symlink_to("../elsewhere")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "7").symlink_to(model)
    assert LocalEncoder(tmp_path / "base").version == 7


@pytest.mark.slow
def test_many_empty_nodes_cost_little(model, tmp_path):
    """Two bytes each, on disk."""
    node = b"\x0a\x00" * (8 * 2**20)
    graph = b"\x12" + varint(len(node)) + node  # MetaGraphDef.graph_def
    (model / "saved_model.pb").write_bytes(b"\x12" + varint(len(graph)) + graph)
    code = f"from ae_search.model_server import LocalEncoder; LocalEncoder({str(model)!r})"
    ended = run_bounded(["python", "-c", code], folder=tmp_path, timeout_s=120)
    assert "a graph of 8388608 nodes" in ended.stderr and ended.peak_mib < 2500


def varint(number):
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def test_what_an_attacker_names_is_no_command(model):
    changed(model, lambda graph: add(function(graph, "__inference_describe"), "\x1b[2J\n\u202egnp" + "x" * 10_000))
    with pytest.raises(ExportError) as caught:
        check_program(model)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_the_list_of_operations():
    for name in ALLOWED | RESTORING | SAVING:
        assert op_def_registry.get(name) is not None, name
    assert not ALLOWED & (set(STRANGE) | RESTORING | SAVING)
    for name in ALLOWED:
        types = {one.type for one in op_def_registry.get(name).attr}
        # An operation with functions runs those of the model, all of which are looked at.
        assert "func" not in types or name in "If Case While For StatelessIf StatelessCase StatelessWhile".split() + [
            "PartitionedCall",
            "StatefulPartitionedCall",
        ], name


class Lookup(layers.Layer):
    """Tables of Keras within a model of images."""

    def __init__(self):
        super().__init__()
        self.words, self.numbers = layers.StringLookup(vocabulary=["a", "0"]), layers.IntegerLookup(vocabulary=[0, 1])
        self.text = layers.TextVectorization(vocabulary=["0", "1"], output_sequence_length=3)

    def call(self, images):
        whole = tf.cast(images[:, 0, 0, :1], tf.int64)
        word = tf.strings.as_string(whole)
        found = [self.words(word), self.numbers(whole), self.text(word)]
        return tf.concat([*(tf.cast(one, tf.float32) for one in found), tf.reduce_mean(images, [1, 2])], 1)

    def compute_output_shape(self, shape):
        return shape[0], 8


def of_layers(*chosen):
    image = keras.Input((16, 16, 3))
    output = image
    for layer in chosen:
        output = layer(output)
    return keras.Model(image, output)


def augmented():
    return of_layers(
        layers.Normalization(mean=[0.0, 0.0, 0.0], variance=[1.0, 1.0, 1.0]),
        layers.RandomFlip(),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomContrast(0.1),
        layers.RandomBrightness(0.1, value_range=(0, 1)),
        layers.RandomCrop(8, 8),
        layers.GaussianNoise(0.1),
        layers.Resizing(12, 12, antialias=True),
        layers.SeparableConv2D(4, 3),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        layers.GlobalMaxPooling2D(),
        layers.UnitNormalization(),
    )


def recurrent():
    return of_layers(layers.Reshape((16, 48)), layers.Bidirectional(layers.LSTM(4)), layers.LayerNormalization())


def attentive():
    image = keras.Input((16, 16, 3))
    rows = layers.Dense(8, activation="gelu")(layers.Reshape((16, 48))(image))
    rows = layers.MultiHeadAttention(2, 4)(rows, rows)
    return keras.Model(image, layers.GlobalAveragePooling1D()(rows))


ENCODERS = {
    "gradients": lambda: build_encoder((16, 16, 3), architecture="gradients", latent_dim=8),
    "conv": lambda: build_encoder((16, 16, 3), architecture="conv", latent_dim=8),
    "tutorial": lambda: build_encoder((16, 16, 3), architecture="tutorial"),
    "augmented": augmented,
    "recurrent": recurrent,
    "attentive": attentive,
    "tables": lambda: of_layers(Lookup()),
}


# Each is built, exported and loaded: the others are left to `make slowtest`.
SOONER = {"gradients", "tables"}


@pytest.mark.parametrize(
    "name", [name if name in SOONER else pytest.param(name, marks=pytest.mark.slow) for name in ENCODERS]
)
def test_what_ae_search_exports_needs_no_trust(name, tmp_path, caplog):
    export_encoder(ENCODERS[name](), tmp_path / "export" / name)
    assert not [one for one in caplog.records if one.levelname == "WARNING"]
    latents = LocalEncoder(tmp_path / "export" / name).encode(np.zeros((2, 16, 16, 3), np.uint8))
    assert len(latents) == 2


class Prints(layers.Layer):
    def call(self, images):
        with tf.control_dependencies([tf.print("seen")]):
            return tf.identity(images)


def test_an_export_that_will_be_refused_says_so(tmp_path, caplog):
    export_encoder(of_layers(Prints(), layers.Flatten()), tmp_path / "export" / "prints")
    assert "contains the operation 'PrintV2'" in caplog.text
    with pytest.raises(ExportError, match="PrintV2"):
        LocalEncoder(tmp_path / "export" / "prints")


@pytest.fixture
def hostile(tmp_path):
    write_model(tmp_path / "export" / "1", "describe", tmp_path / "bait")
    return tmp_path / "export"


def ae_search(*arguments, **options):
    command = [sys.executable, "-m", "ae_search", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def test_the_command_line(hostile, tmp_path):
    (tmp_path / "photos").mkdir()
    keras.utils.save_img(tmp_path / "photos" / "a.png", np.zeros((4, 4, 3)), scale=False)
    embed = ["embed", tmp_path / "photos", "--out", tmp_path / "latents", "--model", hostile]
    for command in (embed, ["serve", hostile, "--port", "0"]):
        refused = ae_search(*command)
        assert refused.returncode == 1 and "contains the operation 'WriteFile'" in refused.stderr, refused
        assert "Traceback" not in refused.stderr and "--trust" in refused.stderr
    assert not (tmp_path / "bait").exists()
    ae_search(*embed, "--trust")
    assert (tmp_path / "bait").exists()
    server = ae_search(*embed[:-2], "--server", "127.0.0.1:1", "--trust")
    assert server.returncode == 1 and "--trust goes with --model" in server.stderr


@pytest.mark.slow
def test_tensorflow_serving_is_not_started_on_it(hostile, tmp_path):
    binary = tmp_path / "bin" / "tensorflow_model_server"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\necho started\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    environment = {**os.environ, "PATH": f"{binary.parent}{os.pathsep}{os.environ['PATH']}"}
    serve = ["serve", hostile, "--backend", "tensorflow-serving", "--port", "8511"]
    refused = ae_search(*serve, env=environment)
    assert (refused.returncode, refused.stdout) == (1, "") and "'WriteFile'" in refused.stderr
    assert "started" in ae_search(*serve, "--trust", env=environment).stdout
