"""`ae-search embed`."""

from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.index.options import SourceName
from ae_search.cli.options import Only, SourceFlags, Strict, tell_truncated, with_source_flags
from ae_search.cli.terminal import progress, say
from ae_search.errors import ServerError

LEFT_OUT_EXIT_CODE, REFUSED_EXIT_CODE = 3, 1


@with_connection
@with_source_flags
def embed(
    connection: Connection,
    flags: SourceFlags,
    source: SourceName,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the Parquet files.")],
    only: Only = None,
    shard_size: Annotated[int, typer.Option(min=1, max=1_000_000, help="Images per file.")] = 8192,
    retry_left_out: Annotated[
        bool, typer.Option("--retry-left-out", help="Write again the files that left out an image.")
    ] = False,
    strict: Strict = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Remove the files of an earlier run from DIR and start over.")
    ] = False,
) -> None:
    """Write the latents of every image in SOURCE to Parquet files: key, label, metadata, latent.

    If the command is killed, run it again: it continues with the first unfinished file. It does not notice an image
    that has changed under the same name. Images that cannot be read are listed in DIR/_left-out.jsonl, and the exit
    code is 3. The exit code is 1 if the server refused images that can be decoded here. A server that batches refuses
    good images together with another client's damaged ones; --retry-left-out tries them again.
    """
    from ae_search.indexing.shards import LEFT_OUT, embed_source

    images = flags.open(source, only)
    encoder = connection.encoder()
    with progress("encoding", len(images)) as advance:
        try:
            report = embed_source(
                images,
                encoder,
                out,
                shard_items=shard_size,
                retry_left_out=retry_left_out,
                restart=restart,
                strict=strict,
                on_progress=advance,
            )
        except (ServerError, KeyboardInterrupt):
            if finished := len(list(out.glob("*.parquet"))):
                say(f"{finished} files are finished; the same command goes on", err=True)
            raise
    model = f"{report.model.name} version {report.model.version}"
    there = f", {report.found} of them from before" if report.found else ""
    say(f"{out}: {report.images} latents of {model} in {report.shards} files{there}")
    tell_truncated(report.truncated)
    if report.left_out:
        say(f"{len(report.left_out)} images cannot be read and were left out; see {out / LEFT_OUT}")
    if report.refused:
        told = f"the server refused {len(report.refused)} images that can be decoded here; see {out / LEFT_OUT}"
        say(f"{told}; the same command with --retry-left-out tries them again", err=True)
        raise typer.Exit(REFUSED_EXIT_CODE)
    if report.left_out:
        raise typer.Exit(LEFT_OUT_EXIT_CODE)
