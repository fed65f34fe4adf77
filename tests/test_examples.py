"""The examples run, against the embedded server."""

import base64
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from google.protobuf import descriptor_pb2

from ae_search.contract import ModelCard
from ae_search.model_server import LocalEncoder, ModelServer

EXAMPLES = Path(__file__).parents[1] / "examples"

# What grpcurl does with the options of grpcurl.sh; for machines without it.
STAND_IN = f"""#!{sys.executable}
import sys
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
options, address, method = sys.argv[1:-2], *sys.argv[-2:]
assert options[0] == "-plaintext" and options[-2:] == ["-d", "@"], options
pool = descriptor_pool.DescriptorPool()
with open(options[options.index("-protoset") + 1], "rb") as file:
    for described in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
        pool.Add(described)
service, name = method.split("/")
found = pool.FindServiceByName(service).FindMethodByName(name)
request = json_format.Parse(sys.stdin.read(), message_factory.GetMessageClass(found.input_type)(), descriptor_pool=pool)
answer = message_factory.GetMessageClass(found.output_type)
with grpc.insecure_channel(address) as channel:
    call = channel.unary_unary("/" + method, lambda m: m.SerializeToString(), answer.FromString)
    print(json_format.MessageToJson(call(request, timeout=30), descriptor_pool=pool))
"""


@pytest.fixture(scope="module")
def server(tiny_export):
    with ModelServer(tiny_export) as running:
        yield running


@pytest.fixture(scope="module")
def images(photos):
    return sorted((photos / "cats").glob("image*"))[:3]


@pytest.fixture(scope="module")
def expected(tiny_export, images):
    return LocalEncoder(tiny_export).encode_files(images)


def run(*command, **environment):
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done


def test_official_stubs(server, tiny_export, images, expected):
    done = run(sys.executable, EXAMPLES / "official_stubs.py", server.address, tiny_export.name, *images)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image"] for line in lines] == [str(image) for image in images]
    assert {line["version"] for line in lines} == {1}
    np.testing.assert_allclose([line["latent"] for line in lines], expected, atol=1e-5)


@pytest.mark.slow
def test_the_tf_data_job_writes_what_an_index_imports(server, tiny_export, photos, tmp_path):
    to = tmp_path / "latents.parquet"
    options = ["--server", server.address, "--model", tiny_export.name]
    done = run(sys.executable, EXAMPLES / "tfdata_job.py", photos, to, *options)
    table = pq.read_table(to).to_pydict()
    good = sorted(path for path in photos.rglob("image*"))
    assert table["key"] == [str(path.relative_to(photos)) for path in good]
    latents = LocalEncoder(tiny_export).encode_files(good)
    np.testing.assert_allclose(table["latent"], latents, atol=1e-5)
    assert "left out cats/text.jpg" in done.stderr and "left out cats/truncated.jpg" in done.stderr
    run(sys.executable, "-m", "ae_search", "index", "import", to, "--index", tmp_path / "index")
    info = run(sys.executable, "-m", "ae_search", "index", "info", "--index", tmp_path / "index", "--json")
    assert json.loads(info.stdout)["items"] == len(good)


@pytest.fixture(scope="module", params=["grpcurl", "stand-in"])
def grpcurl(request, server, tiny_export, tmp_path_factory):
    """Runs grpcurl.sh, with grpcurl or with what does its work here."""
    folder = tmp_path_factory.mktemp("bin")
    if request.param == "stand-in":
        (folder / "grpcurl").write_text(STAND_IN)
        (folder / "grpcurl").chmod(0o755)
    elif not shutil.which("grpcurl"):
        pytest.skip("grpcurl is not on PATH")
    protoset = subprocess.run([sys.executable, EXAMPLES / "protoset.py"], capture_output=True, check=True).stdout
    (folder / "serving.protoset").write_bytes(protoset)
    environment = {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "SERVER": server.address,
        "MODEL": tiny_export.name,
        "PROTOSET": str(folder / "serving.protoset"),
    }
    return lambda *arguments: json.loads(run(EXAMPLES / "grpcurl.sh", *arguments, **environment).stdout)


def test_grpcurl_status(grpcurl):
    (version,) = grpcurl("status")["model_version_status"]
    assert (version["version"], version["state"]) == ("1", "AVAILABLE")


def test_grpcurl_card(grpcurl, tiny_export):
    answer = grpcurl("card")
    card = ModelCard.from_json(base64.b64decode(answer["outputs"]["model_card"]["stringVal"][0]))
    assert card == LocalEncoder(tiny_export).describe()


def test_grpcurl_latents(grpcurl, images, expected):
    latents = grpcurl("latents", *images)["outputs"]["latents"]
    assert [dim["size"] for dim in latents["tensorShape"]["dim"]] == ["3", "8"]
    np.testing.assert_allclose(np.reshape(latents["floatVal"], (3, 8)), expected, atol=1e-5)


def test_grpcurl_without_a_command_says_what_there_is():
    done = subprocess.run([EXAMPLES / "grpcurl.sh"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "status | card | latents" in done.stderr


def test_the_services_of_the_protoset_are_the_official_ones():
    from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

    official = {
        service.full_name: service
        for module in (model_service_pb2, prediction_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    }
    protoset = descriptor_pb2.FileDescriptorSet.FromString(runpy.run_path(str(EXAMPLES / "protoset.py"))["protoset"]())
    described = [(file, service) for file in protoset.file for service in file.service]
    assert {service.name for _, service in described} == {"PredictionService", "ModelService"}
    for file, service in described:
        for method in service.method:
            ours = (method.input_type, method.output_type)
            theirs = official[f"{file.package}.{service.name}"].methods_by_name[method.name]
            assert ours == (f".{theirs.input_type.full_name}", f".{theirs.output_type.full_name}")


@pytest.mark.slow
def test_a_backbone_becomes_an_encoder(tmp_path):
    """With random weights: there is no network to fetch others by."""
    done = run(sys.executable, str(EXAMPLES / "backbone.py"), str(tmp_path / "b.keras"), "--side=32", "--weights=none")
    assert "wrote" in done.stdout
    command = [sys.executable, "-m", "ae_search", "export", "--encoder", str(tmp_path / "b.keras")]
    run(*command, "--to", str(tmp_path / "export" / "backbone"))
    latents = LocalEncoder(tmp_path / "export" / "backbone").encode(np.zeros((2, 32, 32, 3), np.uint8))
    assert latents.shape == (2, 576)
