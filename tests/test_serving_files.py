"""The files of serving/ are what TensorFlow Serving and Docker Compose read."""

from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

SERVING = Path(__file__).parents[1] / "serving"
FIELD = descriptor_pb2.FieldDescriptorProto


def _add_field(message, name, number, type_, *, type_name=None, label=FIELD.LABEL_OPTIONAL):
    message.field.add(name=name, number=number, type=type_, label=label, type_name=type_name)


@pytest.fixture(scope="module")
def pool():
    """The messages of session_bundle_config.proto and monitoring_config.proto, which no Python package carries."""
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    batching = file.message_type.add(name="BatchingParameters")
    wrapped = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    for number, name in enumerate(wrapped, start=1):
        _add_field(batching, name, number, FIELD.TYPE_MESSAGE, type_name=".google.protobuf.Int64Value")
    _add_field(batching, "thread_pool_name", 5, FIELD.TYPE_MESSAGE, type_name=".google.protobuf.StringValue")
    _add_field(batching, "allowed_batch_sizes", 6, FIELD.TYPE_INT64, label=FIELD.LABEL_REPEATED)
    _add_field(batching, "pad_variable_length_inputs", 7, FIELD.TYPE_BOOL)
    prometheus = file.message_type.add(name="PrometheusConfig")
    _add_field(prometheus, "enable", 1, FIELD.TYPE_BOOL)
    _add_field(prometheus, "path", 2, FIELD.TYPE_STRING)
    monitoring = file.message_type.add(name="MonitoringConfig")
    _add_field(monitoring, "prometheus_config", 1, FIELD.TYPE_MESSAGE, type_name=".tensorflow.serving.PrometheusConfig")
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    pool.Add(file)
    return pool


def _read(pool, message, file):
    message_class = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{message}"))
    return text_format.Parse((SERVING / file).read_text(), message_class())


@pytest.fixture(scope="module")
def models():
    from tensorflow_serving.config import model_server_config_pb2

    return text_format.Parse((SERVING / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())


@pytest.fixture(scope="module")
def service():
    (service,) = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"].values()
    return service


def test_models_config_serves_two_versions_of_fashion(models):
    (model,) = models.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("fashion", "/models/fashion", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 2


def test_batching_config_meets_the_rules_of_allowed_batch_sizes(pool):
    batching = _read(pool, "BatchingParameters", "batching.config")
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_batch_size.value
    assert min(batching.batch_timeout_micros.value, batching.num_batch_threads.value) >= 1
    assert batching.max_enqueued_batches.value >= batching.num_batch_threads.value


def test_monitoring_config_enables_prometheus(pool):
    prometheus = _read(pool, "MonitoringConfig", "monitoring.config").prometheus_config
    assert prometheus.enable
    assert prometheus.path == "/monitoring/prometheus/metrics"


def test_compose_mounts_what_its_command_and_the_models_read(service, models):
    folders = {}
    for volume in service["volumes"]:
        source, target, mode = volume.split(":")
        assert mode == "ro"
        folders[target] = (SERVING / source).resolve()
    for flag in service["command"]:
        path = Path(flag.split("=")[1])
        if path.is_absolute():
            assert (folders[str(path.parent)] / path.name).is_file()
    for model in models.model_config_list.config:
        assert folders[str(Path(model.base_path).parent)] == SERVING.parent / "export"


def test_compose_publishes_no_port_to_other_hosts(service):
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]


def test_compose_leaves_batching_off_as_it_refuses_describe(service):
    assert not any("batching" in flag for flag in service["command"])


def test_compose_asks_for_the_health_of_a_model_that_is_served(service, models):
    (model,) = models.model_config_list.config
    assert f"GET /v1/models/{model.name} " in service["healthcheck"]["test"][-1]
