"""`ae-search index build`."""

from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.options import IndexPath, ModelName, ModelPath, Server, Timeout, connect
from ae_search.contract import Encoder
from ae_search.data import FolderSource, Source, open_source
from ae_search.errors import ConfigurationError
from ae_search.indexing import IndexReport

app = typer.Typer(help="Build an index of latents.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Build an index of latents."""


@app.command()
def build(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Built-in data set (fashion_mnist) or folder.")],
    index: IndexPath,
    server: Server = None,
    model: ModelPath = None,
    model_name: ModelName = None,
    timeout: Timeout = 30.0,
    trees: Annotated[int | None, typer.Option(min=1, max=10_000, help="Annoy trees.")] = None,
    recall: Annotated[float, typer.Option(help="Recall@10 that queries are tuned to, above 0 and up to 1.")] = 0.98,
    seed: Annotated[int, typer.Option(min=0, help="Of Annoy's random planes.")] = 42,
    replace: Annotated[bool, typer.Option("--replace", help="Build anew what is in DIR.")] = False,
) -> None:
    """Fetch the latents of every image in SOURCE and write an index of them."""
    if not 0 < recall <= 1:
        raise ConfigurationError(f"--recall must be above 0 and at most 1. Received: {recall}.")
    images = open_source(source)
    if isinstance(images, FolderSource) and images.skipped:
        typer.echo(f"skipped {images.skipped} files that are no images", err=True)
    options: dict[str, object] = {"recall": recall, "seed": seed, "replace": replace}
    if trees is not None:
        options["n_trees"] = trees
    report = build_with_progress(images, connect(server, model, model_name, timeout), index, options)
    manifest = report.manifest
    typer.echo(
        f"{index}: {manifest.items} images of {manifest.model.name} version {manifest.model.version}, recall@10 "
        f"{manifest.recall:.3f} at search_k {manifest.search_k}, {len(report.damaged)} damaged images left out"
    )


def build_with_progress(source: Source, encoder: Encoder, path: Path, options: dict[str, object]) -> IndexReport:
    """Index a source while a progress bar runs on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ae_search.indexing import index_source

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("indexing", total=len(source))
        return index_source(source, encoder, path, on_progress=lambda images: progress.advance(task, images), **options)
