"""`ae-search query`."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ae_search.cli.answers import Answer, print_answers, to_json
from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.index.options import parsed_where
from ae_search.cli.options import IndexPlace
from ae_search.cli.query_items import answer_items, answer_with_examples
from ae_search.cli.query_pictures import draw_neighbours, draw_why, explain
from ae_search.cli.terminal import say, say_json
from ae_search.contract import ITEM_FIELDS, Index
from ae_search.errors import ConfigurationError, ImageError, ImageRefusedError
from ae_search.image_file import read_image_file
from ae_search.open_index import open_index
from ae_search.search import ImageSearch
from ae_search.search.examples import Examples
from ae_search.trust import UNLIKE

LEFT_OUT_EXIT_CODE, REFUSED_EXIT_CODE = 3, 1
_ALTERS, _TAKES = "alters a PHOTO", {"--check-reconstruction": "looks at a PHOTO", "--query-log": "notes a PHOTO"}
# Items whose fields are looked at to say which there are.
_SAMPLED = 10_000
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@with_connection
def query(
    connection: Connection,
    index: IndexPlace,
    photos: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PHOTO]...", help="Image files, or folders of them.", show_default=False),
    ] = None,
    keys: Annotated[
        list[str] | None, typer.Option("--key", metavar="KEY", help="An indexed item instead; needs no server.")
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="An item to be near to as well, or instead of a PHOTO; repeatable."),
    ] = None,
    unlike: Annotated[list[str] | None, typer.Option(metavar="KEY", help="An item to be far from; repeatable.")] = None,
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
            help="Also search with 31 to 33 altered views of each PHOTO: finds copies that were cropped, turned, "
            "moved, mirrored or framed; takes several times as long.",
        ),
    ] = False,
    originals: Annotated[
        bool,
        typer.Option(
            "--originals",
            help="Say of each item whether it is the original of PHOTO, which may be an altered copy: 'this is it', "
            "'probably' or 'not here'; searches with --views.",
        ),
    ] = False,
    check_reconstruction: Annotated[
        bool,
        typer.Option(
            "--check-reconstruction",
            help="Look also at how well the model gives each PHOTO back, to tell what it was not trained on.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw each query beside its neighbours.")] = None,
    query_log: Annotated[
        Path | None,
        typer.Option(
            "--query-log", metavar="DIR", help="Folder of Parquet files to note each PHOTO's figures in; see `drift`."
        ),
    ] = None,
    why: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Draw why each query and its first neighbour are similar; needs a model with a decoder.",
        ),
    ] = None,
) -> None:
    """Print the items of the index that are most similar to each PHOTO, or to each item named by --key.

    An image that cannot be read is told, and the others are answered: the exit code is then 3, or 1 where none can be
    or where the server refused one that can be decoded here. With --json, its object has "error". A neighbour's "path"
    is that of its file, where it still lies in the folder that it was indexed from. "trust" says whether a PHOTO is
    like what the model was trained on; where it is not, a line on standard error says so.
    """
    of_photos = {"--views": views, "--originals": originals, "--query-log": query_log is not None}
    of_photos |= {"--check-reconstruction": check_reconstruction}
    if like or unlike:
        _check_examples(photos, keys, like, of_photos | {"--why": why is not None})
    else:
        _check(photos, keys, of_photos)
    if k < 1:
        raise ConfigurationError(f"-k must be at least 1. Received: {k}.")
    if originals and (check_reconstruction or query_log):
        flag = "--check-reconstruction" if check_reconstruction else "--query-log"
        raise ConfigurationError(f"--originals has a verdict of its own; leave {flag} out.")
    examples = Examples(tuple(like or ()), tuple(unlike or ()))
    options: dict[str, Any] = {"where": parsed_where(where), "effort": effort, "exact": exact}
    files = [file for photo in photos or [] for file in _files(photo)]
    answers = [_unread(file) for file in files]
    with open_index(index) as opened:
        readable = [answer for answer in answers if answer.error is None]
        search = ImageSearch(connection.encoder(opened.model.name), opened) if readable or why else None
        if search is not None and examples.keys:
            _together(lambda some: answer_with_examples(search, examples, k, some, **options), readable)
        elif search is not None and originals:
            _judge(search, readable, k, **options)
        elif search is not None:
            _search(search, readable, k, views=views, check_reconstruction=check_reconstruction, **options)
        answers += answer_items(opened, keys or [], k, examples, alone=not photos, **options)
        if all(answer.error for answer in answers):
            raise ImageError(str(answers[0].error))
        if query_log is not None:
            _note(query_log, answers)
        if why is not None and search is not None:
            explain(answers, search)
        if where is not None and not any(answer.neighbours for answer in answers):
            _say_unknown_fields(opened, options["where"])
        if as_json:
            say_json(to_json(answers, opened.info().sources))
        else:
            print_answers(answers)
        for answer in answers:
            if answer.plain:
                say(f"{answer.query} is of one colour: images like that have no meaningful neighbours", err=True)
            if answer.trusted is not None and answer.trusted.trust.familiar is False:
                say(f"{answer.query} is {UNLIKE}: do not rely on what was found for it", err=True)
        if plot is not None:
            draw_neighbours(plot, answers, opened)
        if why is not None:
            draw_why(why, answers, opened)
    _end(answers)


def _check_examples(
    photos: list[str] | None, keys: list[str] | None, like: list[str] | None, others: dict[str, bool]
) -> None:
    if not photos and not keys and not like:
        raise ConfigurationError("--unlike needs something to be near to: a PHOTO, --key KEY or --like KEY.")
    for flag, given in others.items():
        if given:
            raise ConfigurationError(f"{flag} goes with a PHOTO alone, without --like and --unlike.")


def _check(photos: list[str] | None, keys: list[str] | None, altering: dict[str, bool]) -> None:
    if not photos and not keys:
        raise ConfigurationError("Give at least one PHOTO, --key KEY or --like KEY.")
    for flag, given in altering.items():
        if given and (keys if flag == "--originals" else not photos):
            raise ConfigurationError(f"{flag} {_TAKES.get(flag, _ALTERS)}; of a --key there is the latent only.")


def _files(photo: str) -> list[Path]:
    """Return the file of a PHOTO, or the image files of a folder."""
    path = Path(photo)
    if path.is_dir():
        from ae_search.data import FolderSource, open_source

        source = open_source(str(path.absolute()))
        assert isinstance(source, FolderSource)
        return [path / source.files[position] for position in range(len(source))]
    if _ADDRESS.match(photo) and not path.exists():
        raise ConfigurationError(f"{photo} is an address, and a query reads files: download it first.")
    return [path]


def _unread(file: Path) -> Answer:
    """Return the answer to a file, with an error where it cannot be searched with."""
    try:
        read_image_file(file)
    except ImageError as error:
        return Answer(str(file), file, error=error)
    return Answer(str(file), file)


def _search(search: ImageSearch, answers: Sequence[Answer], k: int, **options: Any) -> None:
    """Find the neighbours of each image."""

    def ask(some: Sequence[Answer]) -> None:
        files = [answer.file for answer in some if answer.file is not None]
        found = search.search_with_trust_batch(files, k, **options)
        for answer, trusted in zip(some, found, strict=True):
            answer.neighbours, answer.trusted = trusted.neighbours, trusted
            answer.plain = answer.file is not None and search.plain(answer.file)

    _together(ask, answers)


def _judge(search: ImageSearch, answers: Sequence[Answer], k: int, **options: Any) -> None:
    """Find the candidates for the original of each image."""

    def ask(some: Sequence[Answer]) -> None:
        found = search.originals_batch([answer.file for answer in some if answer.file is not None], k, **options)
        for answer, candidates in zip(some, found, strict=True):
            answer.candidates, answer.neighbours = candidates, [candidate.neighbour for candidate in candidates]
            answer.plain = answer.file is not None and search.plain(answer.file)

    _together(ask, answers)


def _note(folder: Path, answers: Sequence[Answer]) -> None:
    """Write the figures of those queries that were asked whether they can be trusted into a query log."""
    from ae_search.drift import QueryLog

    with QueryLog(folder) as log:
        for answer in answers:
            if answer.trusted is not None:
                log.add(answer.trusted)


def _together(ask: Callable[[Sequence[Answer]], None], answers: Sequence[Answer]) -> None:
    """Answer all together, or, where one of them turns out to be damaged, each by itself."""
    try:
        ask(answers)
    except ImageError as error:
        if len(answers) == 1:
            answers[0].error = error
            return
        for answer in answers:
            _together(ask, [answer])


def _say_unknown_fields(index: Index, where: dict[str, Any]) -> None:
    """Warn of fields that no item has: that is a slip of the pen more often than an answer."""
    fields: dict[str, None] = {}
    items = 0
    for items, (_, _, metadata) in enumerate(index.items(), start=1):
        fields.update(dict.fromkeys(metadata))
        if items == _SAMPLED:
            break
    for field in where:
        if field not in (*ITEM_FIELDS, *fields):
            told = ", ".join([*ITEM_FIELDS, *sorted(fields)])
            some = f"None of the first {items} items" if len(index) > items else "No item"
            say(f"{some} has a field {field!r}; there are: {told}", err=True)


def _end(answers: Sequence[Answer]) -> None:
    """Tell of the images that could not be searched with, and end with the exit code for them."""
    bad = [answer for answer in answers if answer.error is not None]
    for answer in bad:
        say(f"left out {answer.error}", err=True)
    if bad:
        refused = any(isinstance(answer.error, ImageRefusedError) for answer in bad)
        raise typer.Exit(REFUSED_EXIT_CODE if refused else LEFT_OUT_EXIT_CODE)
