"""`ae-search serve`: a model server over an exported model."""

import logging
import os
import signal
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.options import load_tensorflow

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
) -> None:
    """Serve the newest version of an exported model over gRPC, and newer ones as they appear."""
    as_content = enable_serialization_as_tensor_content
    if backend is Backend.TENSORFLOW_SERVING:
        _become_tensorflow_serving(model, name, host, port, as_content=as_content)
    else:
        _serve_embedded(model, name, host, port, as_content=as_content)


def _serve_embedded(model: Path, name: str | None, host: str, port: int, *, as_content: bool) -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    load_tensorflow()
    from ae_search.model_server import ModelServer

    server = ModelServer(
        model, model_name=name, host=host, port=port, enable_serialization_as_tensor_content=as_content
    )
    with server:
        print(f"serving {server.model_name} version {server.version} on {server.address}", flush=True)
        stopping.wait()
        log.info("stopping: waiting for the requests under way")


def _become_tensorflow_serving(model: Path, name: str | None, host: str, port: int, *, as_content: bool) -> None:
    load_tensorflow()
    from ae_search.model_server.tensorflow_serving import command

    arguments = command(model, model_name=name, host=host, port=port, enable_serialization_as_tensor_content=as_content)
    sys.stdout.flush()
    # In place of this process, so that signals and exit code are TensorFlow Serving's own.
    os.execv(arguments[0], arguments)
