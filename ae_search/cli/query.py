"""`ae-search query`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.options import IndexPath, ModelName, ModelPath, Server, Timeout, connect
from ae_search.errors import ConfigurationError
from ae_search.image_file import read_image_file
from ae_search.index import LatentIndex, Neighbour
from ae_search.search import ImageSearch


def query(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Image files.")],
    index: IndexPath,
    server: Server = None,
    model: ModelPath = None,
    model_name: ModelName = None,
    timeout: Timeout = 30.0,
    k: Annotated[int, typer.Option("-k", help="Neighbours to show, at least 1.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw each photo beside its neighbours.")] = None,
) -> None:
    """Print the images of the index that are most similar to each PHOTO."""
    if k < 1:
        raise ConfigurationError(f"-k must be at least 1. Received: {k}.")
    files = [read_image_file(photo) for photo in photos]
    with LatentIndex.open(index) as opened:
        encoder = connect(server, model, model_name or opened.model.name, timeout)
        found = ImageSearch(encoder, opened).search_batch(list(photos), k)
        if as_json:
            typer.echo(json.dumps([_as_json(photo, row) for photo, row in zip(photos, found, strict=True)], indent=2))
        else:
            _print_table(photos, found)
        if plot is not None:
            _draw(plot, photos, files, found, opened)


def _as_json(photo: Path, neighbours: list[Neighbour]) -> dict[str, object]:
    fields = ("rank", "key", "label", "similarity", "distance")
    return {"query": str(photo), "neighbours": [{name: getattr(n, name) for name in fields} for n in neighbours]}


def _print_table(photos: list[Path], found: list[list[Neighbour]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(soft_wrap=True)
    for photo, neighbours in zip(photos, found, strict=True):
        table = Table("rank", "key", "label", "similarity", title=Text(str(photo)))
        for n in neighbours:
            # Text: keys and labels are strangers' words, not rich's markup.
            table.add_row(str(n.rank), Text(n.key), Text(n.label or ""), f"{n.similarity:.4f}")
        console.print(table)


def _draw(path: Path, photos: list[Path], files: list[bytes], found: list[list[Neighbour]], index: LatentIndex) -> None:
    from ae_search.plots import picture_of, plot_neighbours

    queries = [picture_of(data, photo.name) for photo, data in zip(photos, files, strict=True)]
    rows = [[picture_of(index.thumbnail(n.key), n.label or n.key) for n in neighbours] for neighbours in found]
    plot_neighbours(queries, rows, path)
    typer.echo(f"wrote {path}", err=True)
