"""What the commands below `ae-search index` share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.terminal import say
from ae_search.contract import ALL_CORES, Resources
from ae_search.data import FolderSource, Source, open_source
from ae_search.errors import ConfigurationError

SourceName = Annotated[str, typer.Argument(metavar="SOURCE", help="Built-in data set (fashion_mnist) or folder.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0.0, metavar="SECONDS", help="Wait so long while another process writes DIR.")
]
MetadataLines = Annotated[
    Path | None,
    typer.Option(
        "--metadata", metavar="JSONL", help='Lines {"key": ..., "label": ..., "metadata": {...}} for the images.'
    ),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Threads that build the index; all cores unless given.")]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Build the same file from the same items each time, with one thread: about as many times slower as there "
        "are cores.",
    ),
]
OnDisk = Annotated[
    bool | None,
    typer.Option(
        "--on-disk/--in-memory",
        help="Build within the file, or in memory. Unless given: on disk what would take more than half of the free "
        "memory.",
    ),
]
Recall = Annotated[float, typer.Option(help="Recall@10 that queries are tuned to, above 0 and up to 1.")]


def resources_of(jobs: int | None, deterministic: bool, on_disk: bool | None) -> Resources:
    """Return what a build may use of the machine.

    Raises:
        ConfigurationError: Several threads were asked for, and the same base each time.
    """
    if deterministic and jobs not in (None, 1):
        raise ConfigurationError(f"--deterministic is for one thread. Received: --jobs {jobs}.")
    if deterministic:
        say("deterministic: building with one thread, which takes longer", err=True)
    return Resources(1 if deterministic else jobs or ALL_CORES, on_disk)


def check_recall(recall: float | None) -> None:
    """Check a recall.

    Raises:
        ConfigurationError: It is out of range.
    """
    if recall is not None and not 0 < recall <= 1:
        raise ConfigurationError(f"--recall must be above 0 and at most 1. Received: {recall}.")


def named_source(name: str, only: Sequence[str] | None = None) -> Source:
    """Open a source, or the part of a folder with such file names, and tell what is passed over."""
    source = open_source(name, only=only or ())
    if isinstance(source, FolderSource) and source.skipped:
        say(f"skipped {source.skipped} files that are no images", err=True)
    return source


def tell_refused(refused: Mapping[str, str], again: str) -> None:
    """End with exit code 1 where the server refused images that can be decoded here.

    Args:
        refused: Key and reason of each.
        again: The command that tries them again.
    """
    if not refused:
        return
    key, reason = next(iter(refused.items()))
    say(f"the server refused {len(refused)} images that can be decoded here, such as {key}: {reason}", err=True)
    say(f"`{again}` tries them again", err=True)
    raise typer.Exit(1)
