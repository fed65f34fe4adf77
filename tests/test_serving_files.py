"""The files of serving/ are what TensorFlow Serving, Docker Compose and Prometheus read."""

import subprocess
from pathlib import Path

import pytest
import trustme
import yaml
from google.protobuf import text_format
from serving_messages import check_batch_sizes, parse

from ae_search.client.chunks import MAX_ROWS

SERVING = Path(__file__).parents[1] / "serving"
CORES = {"batching.config": 2, "batching-8-cores.config": 8, "batching-32-cores.config": 32}


def read(file):
    return (SERVING / file).read_text(encoding="utf-8")


def models_of(file):
    from tensorflow_serving.config import model_server_config_pb2

    return text_format.Parse(read(file), model_server_config_pb2.ModelServerConfig()).model_config_list.config


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(read("compose.yaml"))["services"]


@pytest.fixture(scope="module")
def service(services):
    return services["tensorflow-serving"]


def test_models_config_serves_two_versions_and_names_none_that_may_be_missing():
    (model,) = models_of("models.config")
    assert (model.name, model.base_path, model.model_platform) == ("fashion", "/models/fashion", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 2
    # A label on a version that is not there makes the server exit.
    assert not model.version_labels


def test_labels_name_versions_that_no_export_unloads():
    (plain,), (labelled,) = models_of("models.config"), models_of("models-labels.config")
    assert (labelled.name, labelled.base_path) == (plain.name, plain.base_path)
    assert set(labelled.version_labels) == {"stable", "canary"}
    assert set(labelled.version_labels.values()) <= set(labelled.model_version_policy.specific.versions)


@pytest.mark.parametrize("file", CORES)
def test_batching_config(file):
    batching = parse("BatchingParameters", read(file))
    check_batch_sizes(batching)
    assert batching.max_batch_size.value >= MAX_ROWS
    assert batching.num_batch_threads.value == CORES[file]
    assert batching.max_enqueued_batches.value >= batching.num_batch_threads.value
    assert 0 < batching.batch_timeout_micros.value <= 5000
    assert f"/config/{file} " in read(file)


def test_there_is_a_table_row_for_each_batching_config():
    readme = read("README.md")
    for file, cores in CORES.items():
        batching = parse("BatchingParameters", read(file))
        micros, waiting = batching.batch_timeout_micros.value, batching.max_enqueued_batches.value
        assert f"| {cores} | `{file}` | {cores} | {micros} | {waiting} |" in readme


def test_monitoring_config_is_what_prometheus_asks_for(service):
    prometheus = parse("MonitoringConfig", read("monitoring.config")).prometheus_config
    assert prometheus.enable
    (job,) = yaml.safe_load(read("prometheus.yml"))["scrape_configs"]
    assert job["metrics_path"] == prometheus.path
    (target,) = job["static_configs"][0]["targets"]
    assert target == "tensorflow-serving:8501"
    assert "--monitoring_config_file=/config/monitoring.config" in service["command"]


def test_compose_mounts_what_its_command_and_the_models_read(service):
    folders = {}
    for volume in service["volumes"]:
        source, target, mode = volume.split(":")
        assert mode == "ro"
        folders[target] = (SERVING / source).resolve()
    for flag in service["command"]:
        path = Path(flag.split("=")[1])
        if path.is_absolute():
            assert (folders[str(path.parent)] / path.name).is_file()
    for model in models_of("models.config"):
        assert folders[str(Path(model.base_path).parent)] == SERVING.parent / "export"


def test_compose_mounts_the_file_of_prometheus(services):
    source, target, mode = services["prometheus"]["volumes"][0].split(":")
    assert (SERVING / source).is_file()
    assert (target, mode) == ("/etc/prometheus/prometheus.yml", "ro")


def test_compose_publishes_no_port_to_other_hosts_and_knows_who_is_healthy(services):
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["healthcheck"]["test"][0] == "CMD"
        assert ":latest" not in service["image"] and ":" in service["image"]


def test_compose_lets_labels_be_added_without_a_restart(service):
    assert "--allow_version_labels_for_unavailable_models=true" in service["command"]
    assert any(flag.startswith("--model_config_file_poll_wait_seconds=") for flag in service["command"])


def test_compose_asks_for_the_health_of_a_model_that_is_served(service):
    (model,) = models_of("models.config")
    assert f"GET /v1/models/{model.name} " in service["healthcheck"]["test"][-1]


def test_the_tls_example_is_an_ssl_config():
    example = parse("SSLConfig", read("ssl.config.example"))
    assert example.server_key.startswith("-----BEGIN PRIVATE KEY-----\n")
    assert example.client_verify and example.custom_ca


@pytest.mark.parametrize("mutual", [False, True])
def test_the_script_writes_an_ssl_config(tmp_path, mutual):
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    key, chain, ca = tmp_path / "key.pem", tmp_path / "chain.pem", tmp_path / "ca.pem"
    server.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(part.bytes() for part in server.cert_chain_pems))
    authority.cert_pem.write_to_path(ca)
    command = [SERVING / "make-ssl-config.sh", key, chain, *([ca] if mutual else [])]
    written = parse("SSLConfig", subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (written.server_key, written.server_cert) == (key.read_text(), chain.read_text())
    assert (written.custom_ca, written.client_verify) == ((ca.read_text(), True) if mutual else ("", False))


def test_the_script_refuses_what_is_no_pem_file(tmp_path):
    (tmp_path / "key.pem").write_text("text")
    script = SERVING / "make-ssl-config.sh"
    done = subprocess.run([script, tmp_path / "key.pem", tmp_path / "key.pem"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "not a PEM file" in done.stderr
    assert subprocess.run([script], capture_output=True).returncode == 2
