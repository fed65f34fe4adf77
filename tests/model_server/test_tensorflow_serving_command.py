"""What a real TensorFlow Serving is started with, read by the messages it reads it with."""

import os
import stat
from pathlib import Path

import pytest
import serving_messages
import trustme
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from ae_search.cores import cores
from ae_search.errors import ConfigurationError
from ae_search.model_server import Batching, Labels, ServerTls, VersionPolicy
from ae_search.model_server.tensorflow_serving import ANY_HOST, command


@pytest.fixture
def base(tmp_path):
    """A name that has to be quoted."""
    path = tmp_path / 'mode "1" d\u00e9j\u00e0 \\ vu'
    (path / "1").mkdir(parents=True)
    return path


@pytest.fixture(autouse=True)
def _binary(tmp_path, monkeypatch):
    path = tmp_path / "bin" / "tensorflow_model_server"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)


@pytest.fixture
def flags(base):
    """The flags by name; those that name a file of its text."""
    opened = []

    def flags(**options):
        arguments = command(base, **options)
        named = dict(argument.removeprefix("--").split("=", 1) for argument in arguments[1:])
        assert len(named) == len(arguments) - 1
        for name, value in named.items():
            if value.startswith("/proc/self/fd/"):
                opened.append(int(value.rpartition("/")[2]))
                assert os.get_inheritable(opened[-1])
                named[name] = Path(value).read_text()
        return named

    yield flags
    for descriptor in opened:
        os.close(descriptor)


def model_config(text):
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    return model


def test_nothing_asked_for_is_no_file(base, flags):
    assert flags(host="0.0.0.0") == {
        "port": "8500",
        "rest_api_port": "0",
        "enable_grpc_healthcheck_service": "true",
        "model_name": base.name,
        "model_base_path": str(base),
    }


@pytest.mark.parametrize(
    ("policy", "kind", "value"),
    [
        ("latest:2", "latest", {"num_versions": 2}),
        ("all", "all", {}),
        ("specific:1,7", "specific", {"versions": [1, 7]}),
    ],
)
def test_version_policies(base, flags, policy, kind, value):
    named = flags(version_policy=VersionPolicy.parse(policy))
    model = model_config(named["model_config_file"])
    assert (model.name, model.base_path, model.model_platform) == (base.name, str(base), "tensorflow")
    assert model.model_version_policy.WhichOneof("policy_choice") == kind
    expected = type(model.model_version_policy)(**{kind: value})
    assert model.model_version_policy == expected
    assert not {"model_name", "model_base_path", "allow_version_labels_for_unavailable_models"} & named.keys()


def test_labels(flags):
    labels = {"stable": 1, 'ca"nary\n': 2}
    named = flags(labels=Labels(labels), model_name="clothes")
    model = model_config(named["model_config_file"])
    assert (model.name, dict(model.version_labels)) == ("clothes", labels)
    assert model.model_version_policy.latest.num_versions == 1
    assert named["allow_version_labels_for_unavailable_models"] == "true"


def test_batching(flags):
    named = flags(batching=Batching(64, 500, 7))
    assert named["enable_batching"] == "true"
    read = serving_messages.parse("BatchingParameters", named["batching_parameters_file"])
    assert read.max_batch_size.value == 64
    assert read.batch_timeout_micros.value == 500
    assert read.max_enqueued_batches.value == 7
    assert read.num_batch_threads.value == cores()


@pytest.fixture
def pem_files(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    for name, pem in (
        ("server.pem", certificate.cert_chain_pems[0]),
        ("server.key", certificate.private_key_pem),
        ("ca.pem", authority.cert_pem),
    ):
        pem.write_to_path(tmp_path / name)
        (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(flags, pem_files, mutual):
    tls = ServerTls(pem_files / "server.pem", pem_files / "server.key", pem_files / "ca.pem" if mutual else None)
    read = serving_messages.parse("SSLConfig", flags(tls=tls)["ssl_config_file"])
    assert read.server_cert == (pem_files / "server.pem").read_text()
    assert read.server_key == (pem_files / "server.key").read_text()
    assert read.custom_ca == ((pem_files / "ca.pem").read_text() if mutual else "")
    assert read.client_verify is mutual


def test_wrong_tls_files_are_found_before_it_starts(base, tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        command(base, tls=ServerTls(tmp_path / "no.pem", tmp_path / "no.key"))


def test_metrics_threads_and_content(flags):
    named = flags(metrics_port=8501, workers=3, enable_serialization_as_tensor_content=True)
    read = serving_messages.parse("MonitoringConfig", named["monitoring_config_file"])
    assert read.prometheus_config.enable
    assert read.prometheus_config.path == "/monitoring/prometheus/metrics"
    assert named["rest_api_port"] == "8501"
    assert named["grpc_max_threads"] == "3"
    assert named["enable_serialization_as_tensor_content"] == "true"


def test_the_largest_message(flags):
    most = str(3 * 2**20)
    expected = f"grpc.max_receive_message_length={most},grpc.max_send_message_length={most}"
    assert flags(max_message_mib=3)["grpc_channel_arguments"] == expected


def test_a_warning_of_plain_text_beside_tls(flags, pem_files, caplog):
    tls = ServerTls(pem_files / "server.pem", pem_files / "server.key")
    flags(tls=tls, host=ANY_HOST)
    assert caplog.text == ""
    flags(tls=tls, host=ANY_HOST, metrics_port=8501)
    assert "no TLS on port 8501: REST answers there in plain text" in caplog.text


@pytest.mark.parametrize("option", ["port", "metrics_port"])
def test_no_free_port_can_be_picked(base, option):
    with pytest.raises(ConfigurationError, match="cannot pick a free port"):
        command(base, **{option: 0})


def test_a_single_thread_is_refused(base):
    with pytest.raises(ConfigurationError, match=r"--grpc-max-threads 2 or more\. Received: 1"):
        command(base, workers=1)
    assert "--grpc_max_threads=2" in command(base, workers=2)
