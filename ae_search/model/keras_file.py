"""Models of others in `.keras` files, loaded without running code from them."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from ae_search.errors import ConfigurationError
from ae_search.model.failures import one_line

SUFFIX = ".keras"
# That of a network of a thousand layers takes 2 MiB.
_LARGEST_JSON = 64 << 20
# Keras packs nothing; weights that others packed shrink by less than this.
_LARGEST_RATIO = 20


def load_keras_file(path: Path, option: str, *, otherwise: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Load a model from a `.keras` file.

    Args:
        path: The file.
        option: The option that names it, for messages.
        otherwise: What would do instead for a model with classes of its own, added to the advice.
        custom_objects: Classes and functions that are no part of Keras, by the names that the file has for them; None
            where nobody can name any.

    Raises:
        ConfigurationError: There is no such file, or Keras cannot load it safely.
    """
    if path.suffix != SUFFIX:
        raise ConfigurationError(f"{option} takes a {SUFFIX} file. Received: {path}, which is none.")
    if not path.is_file():
        raise ConfigurationError(f"{option} takes a {SUFFIX} file. Received: {path}; there is no such file.")
    _check_archive(path, option)
    try:
        return keras.models.load_model(path, custom_objects=custom_objects, compile=False, safe_mode=True)
    except Exception as error:  # zip, HDF5, JSON, Keras and custom objects each raise their own
        raise ConfigurationError(_refusal(path, error, otherwise, can_name=custom_objects is not None)) from error


def _check_archive(path: Path, option: str) -> None:
    """Refuse what unpacks to far more than the file: Keras would read all of it into memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be loaded by Keras: {one_line(error)}") from error
    for member in members:
        if member.filename.endswith(".json") and member.file_size > _LARGEST_JSON:
            raise ConfigurationError(
                f"{option} takes a model with a {member.filename} of at most {_LARGEST_JSON >> 20} MiB. "
                f"Received: {path} with one of {member.file_size >> 20} MiB."
            )
        if member.file_size > _LARGEST_RATIO * member.compress_size + _LARGEST_JSON:
            raise ConfigurationError(
                f"{member.filename} in {path} unpacks to {member.file_size >> 20} MiB from "
                f"{member.compress_size / 2**20:.3g} MiB, which no weights do; have it saved again by Keras."
            )


def _refusal(path: Path, error: Exception, otherwise: str, *, can_name: bool) -> str:
    """Say why Keras cannot load a file, and what to do."""
    unknown = re.search(r"Could not locate \w+ '([^']*)'", str(error))
    if unknown:
        name = unknown[1]
        module = (
            f"name the module that has it with --custom-objects MODULE:{name} (MODULE alone where it registers the "
            "class with Keras), or "
        )
        return f"{path} holds {name!r}, which is no part of Keras; {module if can_name else ''}{otherwise}."
    if "safe_mode=False" in str(error):
        module = "put the code into a layer of your own and name that with --custom-objects, or "
        return (
            f"{path} holds a Lambda with Python code in it, which is never run from a file; "
            f"{module if can_name else ''}{otherwise}."
        )
    return f"{path} cannot be loaded by Keras: {one_line(error)}"
