"""What several commands share."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.terminal import say
from ae_search.errors import ConfigurationError
from ae_search.quiet_import import load_tensorflow as load_tensorflow

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
