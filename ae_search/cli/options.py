"""Options that several commands share, and the encoder that they name."""

import importlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ae_search.contract import DEFAULT_MODEL_NAME, Encoder
from ae_search.errors import ConfigurationError

Server = Annotated[
    str | None,
    typer.Option(envvar="AE_SEARCH_SERVER", metavar="HOST:PORT", help="gRPC address of the model server."),
]
ModelPath = Annotated[
    Path | None,
    typer.Option("--model", metavar="EXPORT", help="Exported model to run in this process, in place of --server."),
]
ModelName = Annotated[
    str | None,
    typer.Option(envvar="AE_SEARCH_MODEL_NAME", help="Name that the server serves the model under."),
]
Timeout = Annotated[
    float, typer.Option(envvar="AE_SEARCH_TIMEOUT", min=0.001, help="Seconds allowed for each request.")
]
IndexPath = Annotated[Path, typer.Option("--index", envvar="AE_SEARCH_INDEX", metavar="DIR", help="Index folder.")]


def connect(server: str | None, model: Path | None, model_name: str | None, timeout_s: float) -> Encoder:
    """Return the encoder that the options name.

    Raises:
        ConfigurationError: Neither or both of server and model are given.
    """
    if (server is None) == (model is None):
        raise ConfigurationError("Give either --server HOST:PORT or --model EXPORT, one of them.")
    if server is not None:
        from ae_search.client import LatentClient

        return LatentClient(server, model_name or DEFAULT_MODEL_NAME, timeout_s=timeout_s)
    load_tensorflow()
    from ae_search.model_server import LocalEncoder

    assert model is not None
    return LocalEncoder(model)


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Read "28x28" as height and width in px.

    Raises:
        ConfigurationError: It is not of that form.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise ConfigurationError(f"--image-size must be HEIGHTxWIDTH, for example 64x64. Received: {text!r}.")
    return int(match[1]), int(match[2])


def load_tensorflow() -> None:
    """Import TensorFlow without its greeting, which no log level reaches and which would bury our own messages.

    What it says is kept back and shown when the import fails.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(2), "wb") as stderr:
        os.dup2(held.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            held.seek(0)
            stderr.write(held.read())
            raise
        finally:
            os.dup2(stderr.fileno(), 2)
