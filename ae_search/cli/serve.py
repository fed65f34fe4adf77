"""`ae-search serve`: a model server over an exported model."""

import logging
import os
import signal
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ae_search.cli.options import load_tensorflow
from ae_search.cli.terminal import say
from ae_search.errors import ConfigurationError

if TYPE_CHECKING:
    from ae_search.model_server import Batching, ServerTls

log = logging.getLogger(__name__)


class Backend(StrEnum):
    """What answers the requests."""

    EMBEDDED = "embedded"
    TENSORFLOW_SERVING = "tensorflow-serving"


def serve(
    model: Annotated[Path, typer.Argument(help="Model base path: the folder with the version folders.")],
    port: Annotated[int, typer.Option(help="gRPC port; 0 picks a free one.", min=0, max=65535)] = 8500,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    name: Annotated[str | None, typer.Option(help="Model name; the folder's name when left out.")] = None,
    backend: Annotated[Backend, typer.Option(help="What answers the requests.")] = Backend.EMBEDDED,
    enable_serialization_as_tensor_content: Annotated[
        bool,
        typer.Option(
            "--enable-serialization-as-tensor-content", help="Answer in raw bytes, which clients read faster."
        ),
    ] = False,
    version_policy: Annotated[
        str, typer.Option(metavar="POLICY", help="Which versions are served: latest:N, all or specific:V,V.")
    ] = "latest:1",
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VERSION", help="Name for a version; may be repeated.")
    ] = None,
    allow_version_labels_for_unavailable_models: Annotated[
        bool,
        typer.Option(
            "--allow-version-labels-for-unavailable-models", help="Start even if a label's version is not available."
        ),
    ] = False,
    grpc_max_threads: Annotated[
        int | None, typer.Option(min=1, help="Predict requests run at a time; 4 for each core when left out.")
    ] = None,
    batching: Annotated[bool, typer.Option("--batching", help="Run requests that arrive together together.")] = False,
    max_batch_size: Annotated[
        int | None, typer.Option(min=1, help="With --batching: rows of one joined run; 256 when left out.")
    ] = None,
    batch_timeout_micros: Annotated[
        int | None,
        typer.Option(
            min=0, help="With --batching: the longest that requests wait for others, microseconds; 2000 when left out."
        ),
    ] = None,
    max_enqueued_batches: Annotated[
        int | None, typer.Option(min=1, help="With --batching: full batches that may wait; 16 when left out.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain, PEM: serve TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of --tls-cert, PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Accept only clients with a certificate signed by these, PEM.")
    ] = None,
    max_message_mib: Annotated[
        int | None, typer.Option(min=1, max=2047, help="MiB of the largest request and answer; 64 when left out.")
    ] = None,
    drain_s: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds that requests under way have to end when told to stop; 10 when left out."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port for Prometheus; 0 picks a free one; none when left out. tensorflow-serving answers REST there "
            "too, in plain text also with --tls-cert.",
        ),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Serve models whatever their programs may do, as you know who made them.")
    ] = False,
) -> None:
    """Serve the wanted versions of an exported model over gRPC, and newer ones as they appear."""
    stopping = threading.Event()
    if backend is Backend.EMBEDDED:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
    load_tensorflow()
    from ae_search.model_server import Labels, VersionPolicy

    options = {
        "model_name": name,
        "host": host,
        "port": port,
        "workers": grpc_max_threads,
        "enable_serialization_as_tensor_content": enable_serialization_as_tensor_content,
        "version_policy": VersionPolicy.parse(version_policy),
        "labels": Labels.parse(label or [], allow_unavailable=allow_version_labels_for_unavailable_models),
        "batching": _batching(batching, max_batch_size, batch_timeout_micros, max_enqueued_batches),
        "tls": _tls(tls_cert, tls_key, tls_client_ca),
        "max_message_mib": max_message_mib,
        "drain_s": drain_s,
        "metrics_port": metrics_port,
        "trust": trust,
    }
    options = {option: value for option, value in options.items() if value is not None}
    if backend is Backend.EMBEDDED:
        _serve_embedded(model, options, stopping)
    else:
        _become_tensorflow_serving(model, options)


def _serve_embedded(model: Path, options: dict[str, Any], stopping: threading.Event) -> None:
    from ae_search.model_server import ModelServer

    with ModelServer(model, **options) as server:
        say(f"serving {server.model_name} version {server.version} on {server.address}")
        stopping.wait()
        log.info("stopping: waiting for the requests under way")
    # Not by returning: that waits for runs of the model that outlast the drain, and nothing can interrupt them.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _become_tensorflow_serving(model: Path, options: dict[str, Any]) -> None:
    from ae_search.model_server.tensorflow_serving import command

    if "drain_s" in options:
        raise ConfigurationError("tensorflow_model_server has no option for --drain-s.")
    arguments = command(model, **options)
    sys.stdout.flush()
    # In place of this process, so that signals and exit code are TensorFlow Serving's own.
    os.execv(arguments[0], arguments)


def _batching(wanted: bool, rows: int | None, timeout_micros: int | None, enqueued: int | None) -> "Batching | None":
    from ae_search.model_server import Batching

    chosen = {"max_batch_size": rows, "batch_timeout_micros": timeout_micros, "max_enqueued_batches": enqueued}
    given = {name: value for name, value in chosen.items() if value is not None}
    if given and not wanted:
        option = next(iter(given)).replace("_", "-")
        raise ConfigurationError(f"--{option} says how to join requests; give --batching as well.")
    return Batching(**given) if wanted else None


def _tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> "ServerTls | None":
    from ae_search.model_server import ServerTls

    if certificate is None or key is None:
        if certificate or key or client_ca:
            raise ConfigurationError("TLS needs both --tls-cert and --tls-key; --tls-client-ca comes on top of them.")
        return None
    return ServerTls(certificate, key, client_ca)
