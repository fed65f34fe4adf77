"""The command line of a real TensorFlow Serving over the same base path."""

import json
import logging
import os
import shutil
from pathlib import Path

from ae_search.cores import cores
from ae_search.errors import ConfigurationError
from ae_search.model_server.options import Batching, ServerTls
from ae_search.model_server.policy import Labels, VersionPolicy
from ae_search.model_server.program import check_program
from ae_search.version_folders import require_version_folders

log = logging.getLogger(__name__)

BINARY = "tensorflow_model_server"
ANY_HOST = "0.0.0.0"
MIB = 2**20
# With a single thread, its gRPC server polls and never answers (seen on 2.20 and 2.21).
LEAST_THREADS = 2
METRICS_PATH = "/monitoring/prometheus/metrics"


def command(
    base_path: Path | str,
    *,
    model_name: str | None = None,
    host: str = ANY_HOST,
    port: int = 8500,
    workers: int | None = None,
    enable_serialization_as_tensor_content: bool = False,
    version_policy: VersionPolicy | None = None,
    labels: Labels | None = None,
    batching: Batching | None = None,
    tls: ServerTls | None = None,
    max_message_mib: int | None = None,
    metrics_port: int | None = None,
    trust: bool = False,
) -> list[str]:
    """Return the arguments that start `tensorflow_model_server` for a model.

    TensorFlow Serving has no option for the address: its ports are open on every network interface (0.0.0.0). Close
    them with a firewall or a container network where that is not wanted. What it wants as configuration files is put
    into memory that the process inherits by `execv`, so that no file stays behind, and no key.

    Args:
        base_path: Folder with the version folders.
        model_name: Name to answer to; the folder's name when left out.
        host: The address that was asked for; a warning is logged when it is narrower than what will happen.
        port: gRPC port, 1 to 65535.
        workers: Requests answered at a time, its `--grpc_max_threads`, at least 2.
        enable_serialization_as_tensor_content: Answer outputs as `tensor_content`.
        version_policy: Which versions are served; the newest when left out.
        labels: Names for versions. The server checks them before it loads anything, so it is always told to allow
            labels on versions that are not available.
        batching: Join requests that arrive together.
        tls: Files for TLS on the gRPC port.
        max_message_mib: MiB of the largest request and answer, 1 to 2047; without a limit when left out.
        metrics_port: Port for Prometheus, 1 to 65535. REST answers there too, Predict included, and in plain text also
            with `tls`: a warning is logged.
        trust: Do not look at what the programs of the wanted versions may do. TensorFlow Serving itself never does:
            versions that appear while it runs are loaded as they are.

    Raises:
        ConfigurationError: The binary is not on PATH, the base path has no version folder, a port is 0, a file cannot
            be read, or `workers` is 1.
        ExportError: A version may do more than compute.
    """
    if workers is not None and workers < LEAST_THREADS:
        raise ConfigurationError(
            f"{BINARY} answers nothing at all with fewer than {LEAST_THREADS} threads; give --grpc-max-threads "
            f"{LEAST_THREADS} or more. Received: {workers}."
        )
    base_path = Path(base_path).absolute()
    found = require_version_folders(base_path)
    binary = shutil.which(BINARY)
    if binary is None:
        raise ConfigurationError(
            f"{BINARY} is not on PATH; install TensorFlow Serving (apt package tensorflow-model-server, "
            "or the image tensorflow/serving), or use the embedded backend."
        )
    if port == 0 or metrics_port == 0:
        raise ConfigurationError(f"{BINARY} cannot pick a free port; give --port and --metrics-port a number.")
    if host != ANY_HOST:
        log.warning("TensorFlow Serving cannot listen on %s only: port %d is open on every interface.", host, port)
    if not trust:
        for version in sorted((version_policy or VersionPolicy()).wanted(found)):
            if any(found[version].iterdir()):  # otherwise somebody is still about to copy it
                check_program(found[version])
    arguments = [binary, f"--port={port}", f"--rest_api_port={metrics_port or 0}"]
    # The standard health service, which the embedded server always has. A server too old for the flag starts all the
    # same; it knows the service name "" only.
    arguments.append("--enable_grpc_healthcheck_service=true")
    arguments += _model(model_name or base_path.name, base_path, version_policy or VersionPolicy(), labels or Labels())
    if workers is not None:
        arguments.append(f"--grpc_max_threads={workers}")
    if batching is not None:
        arguments += ["--enable_batching=true", _file("batching_parameters_file", _batching_text(batching))]
    if tls is not None:
        tls.credentials()
        arguments.append(_file("ssl_config_file", _ssl_text(tls)))
    if max_message_mib is not None:
        most = max_message_mib * MIB
        lengths = ",".join(f"grpc.max_{way}_message_length={most}" for way in ("receive", "send"))
        arguments.append(f"--grpc_channel_arguments={lengths}")
    if metrics_port:
        if tls is not None:
            log.warning("TensorFlow Serving has no TLS on port %d: REST answers there in plain text.", metrics_port)
        arguments.append(
            _file("monitoring_config_file", f'prometheus_config {{ enable: true path: "{METRICS_PATH}" }}\n')
        )
    if enable_serialization_as_tensor_content:
        arguments.append("--enable_serialization_as_tensor_content=true")
    return arguments


def _model(name: str, base_path: Path, policy: VersionPolicy, labels: Labels) -> list[str]:
    if policy == VersionPolicy() and not labels.versions:
        return [f"--model_name={name}", f"--model_base_path={base_path}"]
    if policy.specific:
        served = f"specific {{ {' '.join(f'versions: {version}' for version in sorted(policy.specific))} }}"
    else:
        served = "all {}" if policy.latest is None else f"latest {{ num_versions: {policy.latest} }}"
    named = "".join(
        f"    version_labels {{ key: {_quoted(label)} value: {version} }}\n"
        for label, version in labels.versions.items()
    )
    text = (
        "model_config_list {\n  config {\n"
        f"    name: {_quoted(name)}\n    base_path: {_quoted(str(base_path))}\n"
        f'    model_platform: "tensorflow"\n    model_version_policy {{ {served} }}\n{named}  }}\n}}\n'
    )
    allow = ["--allow_version_labels_for_unavailable_models=true"] if labels.versions else []
    return [_file("model_config_file", text), *allow]


def _batching_text(batching: Batching) -> str:
    return (
        f"max_batch_size {{ value: {batching.max_batch_size} }}\n"
        f"batch_timeout_micros {{ value: {batching.batch_timeout_micros} }}\n"
        f"max_enqueued_batches {{ value: {batching.max_enqueued_batches} }}\n"
        f"num_batch_threads {{ value: {cores()} }}\n"
    )


def _ssl_text(tls: ServerTls) -> str:
    lines = [f"server_key: {_quoted(tls.key.read_text())}", f"server_cert: {_quoted(tls.certificate.read_text())}"]
    if tls.client_ca is not None:
        lines += [f"custom_ca: {_quoted(tls.client_ca.read_text())}", "client_verify: true"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a string of protobuf's text format, whose escapes are those of JSON for ASCII; the rest stays as it is."""
    return json.dumps(text, ensure_ascii=False)


def _file(option: str, text: str) -> str:
    descriptor = os.memfd_create(option, 0)  # without close-on-exec
    os.write(descriptor, text.encode())
    return f"--{option}=/proc/self/fd/{descriptor}"
