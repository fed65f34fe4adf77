"""The command line of a real TensorFlow Serving over the same base path."""

import logging
import shutil
from pathlib import Path

from ae_search.errors import ConfigurationError
from ae_search.model_server.versions import require_version_folders

log = logging.getLogger(__name__)

BINARY = "tensorflow_model_server"
ANY_HOST = "0.0.0.0"


def command(
    base_path: Path | str,
    *,
    model_name: str | None = None,
    host: str = ANY_HOST,
    port: int = 8500,
    enable_serialization_as_tensor_content: bool = False,
) -> list[str]:
    """Return the arguments that start `tensorflow_model_server` for a model.

    TensorFlow Serving has no option for the address: its gRPC port is open on every network interface (0.0.0.0),
    without TLS. Close it with a firewall or a container network where that is not wanted.

    Args:
        base_path: Folder with the version folders.
        model_name: Name to answer to; the folder's name when left out.
        host: The address that was asked for; a warning is logged when it is narrower than what will happen.
        port: gRPC port, 1 to 65535.
        enable_serialization_as_tensor_content: Answer outputs as `tensor_content`.

    Raises:
        ConfigurationError: The binary is not on PATH, or the base path has no version folder.
    """
    base_path = Path(base_path).absolute()
    require_version_folders(base_path)
    binary = shutil.which(BINARY)
    if binary is None:
        raise ConfigurationError(
            f"{BINARY} is not on PATH; install TensorFlow Serving (apt package tensorflow-model-server, "
            "or the image tensorflow/serving), or use the embedded backend."
        )
    if host != ANY_HOST:
        log.warning("TensorFlow Serving cannot listen on %s only: port %d is open on every interface.", host, port)
    arguments = [
        binary,
        f"--port={port}",
        "--rest_api_port=0",
        f"--model_name={model_name or base_path.name}",
        f"--model_base_path={base_path}",
    ]
    if enable_serialization_as_tensor_content:
        arguments.append("--enable_serialization_as_tensor_content=true")
    return arguments
