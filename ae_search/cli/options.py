"""What several commands share."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ae_search.cli.terminal import say
from ae_search.errors import ConfigurationError
from ae_search.open_index import place_name
from ae_search.quiet_import import load_tensorflow as load_tensorflow

if TYPE_CHECKING:
    from ae_search.data import Source, SourceOptions


def index_option(help: str) -> Any:
    """Return the option --index; its value is without a password from the beginning, so that nothing can tell one."""
    return typer.Option("--index", envvar="AE_SEARCH_INDEX", metavar="DIR", parser=place_name, help=help)


IndexPlace = Annotated[
    str, index_option("Index: a folder, postgresql://HOST/DATABASE?index=NAME, or milvus://HOST:PORT/NAME.")
]
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


PANEL = "Source"


@dataclass(frozen=True)
class SourceFlags:
    """How a SOURCE is opened, as the command line says."""

    image_feature: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PANEL, help="Feature of tfrecord: and tfds: that holds the image file."
        ),
    ] = None
    label_feature: Annotated[
        str | None, typer.Option(metavar="NAME", rich_help_panel=PANEL, help="Feature that holds the label.")
    ] = None
    key_feature: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=PANEL, help="Feature that holds a key; else file and number."),
    ] = None
    download: Annotated[
        bool,
        typer.Option("--download", rich_help_panel=PANEL, help="Let tensorflow-datasets download what is not there."),
    ] = False

    @property
    def options(self) -> "SourceOptions":
        """The same for `open_source`."""
        from ae_search.data import SourceOptions

        return SourceOptions(self.image_feature, self.label_feature, self.key_feature, self.download)

    def open(self, text: str, only: Sequence[str] | None = None) -> "Source":
        """Open a SOURCE, and tell what a person should know of it.

        Raises:
            ConfigurationError: There is no such source, or it holds no image.
        """
        from ae_search.data import open_source

        source = open_source(text, only=only or (), options=self.options)
        for note in source.notes:
            say(note, err=True)
        return source


def with_source_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `SourceFlags`, in place of its parameter `flags`."""
    hints = get_type_hints(SourceFlags, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=hints[field.name])
        for field in fields(SourceFlags)
    ]
    own = [one.replace(kind=keyword) for one in inspect.signature(command).parameters.values() if one.name != "flags"]

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        chosen = {field.name: given.pop(field.name) for field in fields(SourceFlags)}
        command(flags=SourceFlags(**chosen), **given)

    expanded.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    expanded.__annotations__ = {one.name: one.annotation for one in [*own, *shared]}
    return expanded


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
