"""`ae-search query`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.options import IndexPath
from ae_search.cli.terminal import say, say_json, show_table
from ae_search.contract import Index, Neighbour, parse_where
from ae_search.errors import ConfigurationError
from ae_search.image_file import read_image_file
from ae_search.open_index import open_index
from ae_search.search import ImageSearch


@with_connection
def query(
    connection: Connection,
    index: IndexPath,
    photos: Annotated[list[Path] | None, typer.Argument(metavar="[PHOTO]...", help="Image files.")] = None,
    keys: Annotated[
        list[str] | None, typer.Option("--key", metavar="KEY", help="An indexed item instead; needs no server.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Neighbours to show, at least 1.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='Only items such as \'{"label": "Bag", "price": {"lt": 20}}\'.'),
    ] = None,
    effort: Annotated[
        int | None,
        typer.Option(
            "--effort",
            min=1,
            help="Work to do for the query, in place of the tuned figure (Annoy's search_k).",
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every item.")] = False,
    views: Annotated[
        bool,
        typer.Option(
            "--views",
            help="Also search with 33 altered views of each PHOTO: finds copies that were cropped, turned, moved or "
            "mirrored; takes several times as long.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw each query beside its neighbours.")] = None,
) -> None:
    """Print the items of the index that are most similar to each PHOTO, or to each item named by --key."""
    _check(photos, keys, k, views=views)
    options: dict[str, Any] = {"where": _filter(where), "effort": effort, "exact": exact}
    files = [read_image_file(photo) for photo in photos or []]
    with open_index(index) as opened:
        found: list[list[Neighbour]] = []
        if photos:
            encoder = connection.encoder(opened.model.name)
            found += ImageSearch(encoder, opened).search_batch(list(photos), k, views=views, **options)
        found += [opened.search_by_key(key, k, **options) for key in keys or []]
        names = [*map(str, photos or []), *(keys or [])]
        if as_json:
            say_json(json.dumps([_as_json(name, row) for name, row in zip(names, found, strict=True)], indent=2))
        else:
            _print_table(names, found)
        if plot is not None:
            _draw(plot, names, files, found, opened)


def _check(photos: list[Path] | None, keys: list[str] | None, k: int, *, views: bool) -> None:
    if k < 1:
        raise ConfigurationError(f"-k must be at least 1. Received: {k}.")
    if not photos and not keys:
        raise ConfigurationError("Give at least one PHOTO or --key KEY.")
    if views and not photos:
        raise ConfigurationError("--views alters a PHOTO, and none was given; of a --key there is the latent only.")


def _filter(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        raw = json.loads(text)
        parse_where(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--where {text}: {error}") from error
    return raw  # type: ignore[no-any-return]


def _as_json(name: str, neighbours: list[Neighbour]) -> dict[str, object]:
    fields = ("rank", "key", "label", "similarity", "distance", "metadata")
    return {"query": name, "neighbours": [{field: getattr(n, field) for field in fields} for n in neighbours]}


def _print_table(names: list[str], found: list[list[Neighbour]]) -> None:
    for name, neighbours in zip(names, found, strict=True):
        rows = [(str(n.rank), n.key, n.label or "", f"{n.similarity:.4f}") for n in neighbours]
        show_table(name, ("rank", "key", "label", "similarity"), rows)


def _draw(path: Path, names: list[str], files: list[bytes], found: list[list[Neighbour]], index: Index) -> None:
    from ae_search.plots import picture_of, picture_of_file, plot_neighbours

    queries = [picture_of_file(data, Path(name).name) for name, data in zip(names, files, strict=False)]
    queries += [picture_of(index.thumbnail(key), Path(key).name) for key in names[len(files) :]]
    rows = [[picture_of(index.thumbnail(n.key), n.label or n.key) for n in neighbours] for neighbours in found]
    plot_neighbours(queries, rows, path)
    say(f"wrote {path}", err=True)
