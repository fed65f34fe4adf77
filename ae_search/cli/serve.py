"""`ae-search serve`: a model server over an exported model."""

import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ae_search.cli.options import load_tensorflow
from ae_search.cli.terminal import say
from ae_search.errors import ConfigurationError

if TYPE_CHECKING:
    from ae_search.model_server import Batching, Labels, ServerTls, VersionPolicy

log = logging.getLogger(__name__)
# How often the main thread looks whether it is to stop.
_LOOK_S = 0.5


class Backend(StrEnum):
    """What answers the requests."""

    EMBEDDED = "embedded"
    TENSORFLOW_SERVING = "tensorflow-serving"


@dataclass(frozen=True)
class ServeOptions:
    """What a server is started with, whichever answers; `ModelServer` says what each option means.

    None leaves an option to the server.
    """

    model_name: str | None
    host: str
    port: int
    workers: int | None
    enable_serialization_as_tensor_content: bool
    version_policy: "VersionPolicy"
    labels: "Labels"
    batching: "Batching | None"
    tls: "ServerTls | None"
    max_message_mib: int | None
    drain_s: float | None
    metrics_port: int | None
    trust: bool


def serve(
    model: Annotated[Path, typer.Argument(help="Model base path: the folder with the version folders.")],
    port: Annotated[int, typer.Option(help="gRPC port; 0 picks a free one.", min=0, max=65535)] = 8500,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    name: Annotated[str | None, typer.Option(help="Model name; by default, the name of the folder.")] = None,
    backend: Annotated[Backend, typer.Option(help="Server that answers the requests.")] = Backend.EMBEDDED,
    enable_serialization_as_tensor_content: Annotated[
        bool,
        typer.Option(
            "--enable-serialization-as-tensor-content", help="Answer with raw bytes, which clients read faster."
        ),
    ] = False,
    version_policy: Annotated[
        str, typer.Option(metavar="POLICY", help="Versions to serve: latest:N, all or specific:V,V.")
    ] = "latest:1",
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VERSION", help="Label for a version; repeatable.")
    ] = None,
    allow_version_labels_for_unavailable_models: Annotated[
        bool,
        typer.Option(
            "--allow-version-labels-for-unavailable-models",
            help="Start even if the version of a label is not available.",
        ),
    ] = False,
    grpc_max_threads: Annotated[
        int | None, typer.Option(min=1, help="Number of Predict requests that run at a time; by default, 4 per core.")
    ] = None,
    batching: Annotated[
        bool, typer.Option("--batching", help="Join requests that arrive at about the same time into one run.")
    ] = False,
    max_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows of one joined run, at most; 256 by default. Needs --batching.")
    ] = None,
    batch_timeout_micros: Annotated[
        int | None,
        typer.Option(
            min=0, help="Longest wait for other requests, in microseconds; 2000 by default. Needs --batching."
        ),
    ] = None,
    max_enqueued_batches: Annotated[
        int | None, typer.Option(min=1, help="Number of full batches that may wait; 16 by default. Needs --batching.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM certificate chain; turns TLS on.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM private key of --tls-cert.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="PEM certificates; only clients with a certificate signed by one of them are accepted."
        ),
    ] = None,
    max_message_mib: Annotated[
        int | None, typer.Option(min=1, max=2047, help="Size of the largest request and answer, in MiB; 64 by default.")
    ] = None,
    drain_s: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds that running requests get to finish when the server is told to stop; 10 by default."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port for Prometheus; 0 picks a free one; by default, there is none. tensorflow-serving answers REST "
            "on it, too, in plain text even with --tls-cert.",
        ),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Trust whoever made the models: serve them whatever their programs may do.")
    ] = False,
) -> None:
    """Serve the wanted versions of an exported model over gRPC, and newer ones as they appear."""
    stopping = threading.Event()
    if backend is Backend.EMBEDDED:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
    load_tensorflow()
    from ae_search.model_server import Labels, VersionPolicy

    options = ServeOptions(
        model_name=name,
        host=host,
        port=port,
        workers=grpc_max_threads,
        enable_serialization_as_tensor_content=enable_serialization_as_tensor_content,
        version_policy=VersionPolicy.parse(version_policy),
        labels=Labels.parse(label or [], allow_unavailable=allow_version_labels_for_unavailable_models),
        batching=_batching(batching, max_batch_size, batch_timeout_micros, max_enqueued_batches),
        tls=_tls(tls_cert, tls_key, tls_client_ca),
        max_message_mib=max_message_mib,
        drain_s=drain_s,
        metrics_port=metrics_port,
        trust=trust,
    )
    if backend is Backend.EMBEDDED:
        _serve_embedded(model, options, stopping)
    else:
        _become_tensorflow_serving(model, options)


def _serve_embedded(model: Path, options: ServeOptions, stopping: threading.Event) -> None:
    from ae_search.model_server import ModelServer
    from ae_search.model_server.server import DRAIN_S, MAX_MESSAGE_MIB

    server = ModelServer(
        model,
        model_name=options.model_name,
        host=options.host,
        port=options.port,
        workers=options.workers,
        enable_serialization_as_tensor_content=options.enable_serialization_as_tensor_content,
        version_policy=options.version_policy,
        labels=options.labels,
        batching=options.batching,
        tls=options.tls,
        max_message_mib=MAX_MESSAGE_MIB if options.max_message_mib is None else options.max_message_mib,
        drain_s=DRAIN_S if options.drain_s is None else options.drain_s,
        metrics_port=options.metrics_port,
        trust=options.trust,
    )
    with server:
        say(f"serving {server.model_name} version {server.version} on {server.address}")
        # Not without a limit: where another thread takes the signal, this one learns of it when it next runs.
        while not stopping.wait(_LOOK_S):
            pass
        log.info("stopping: waiting for the requests under way")
    # Not by returning: that waits for runs of the model that outlast the drain, and nothing can interrupt them.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _become_tensorflow_serving(model: Path, options: ServeOptions) -> None:
    from ae_search.model_server.tensorflow_serving import command

    if options.drain_s is not None:
        raise ConfigurationError("tensorflow_model_server has no option for --drain-s.")
    arguments = command(
        model,
        model_name=options.model_name,
        host=options.host,
        port=options.port,
        workers=options.workers,
        enable_serialization_as_tensor_content=options.enable_serialization_as_tensor_content,
        version_policy=options.version_policy,
        labels=options.labels,
        batching=options.batching,
        tls=options.tls,
        max_message_mib=options.max_message_mib,
        metrics_port=options.metrics_port,
        trust=options.trust,
    )
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
