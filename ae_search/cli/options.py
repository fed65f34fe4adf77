"""What several commands share."""

import importlib
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.terminal import say
from ae_search.errors import ConfigurationError

IndexPath = Annotated[Path, typer.Option("--index", envvar="AE_SEARCH_INDEX", metavar="DIR", help="Index folder.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="PATTERN", help="Take only the files whose names match, such as 'train_*'; repeatable."
    ),
]

Strict = Annotated[
    bool,
    typer.Option("--strict", help="Leave out JPEG files that are cut short, as damaged ones are; else they count."),
]
TOLD = 3


def tell_truncated(keys: Sequence[str]) -> None:
    """Name the first images of which only a part was there, on stderr; say nothing where there are none."""
    if keys:
        more = ", ..." if len(keys) > TOLD else ""
        named = ", ".join(keys[:TOLD])
        say(
            f"{len(keys)} truncated JPEG files, taken as far as they go ({named}{more}); --strict refuses them",
            err=True,
        )


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
