"""`ae-search embed`."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.index.options import SourceName
from ae_search.cli.options import Only, SourceFlags, Strict, tell_truncated, with_source_flags
from ae_search.cli.terminal import INTERRUPTED_EXIT_CODE, progress, refuse_unknown, say
from ae_search.errors import ConfigurationError, ServerError

if TYPE_CHECKING:
    from ae_search.indexing.shards import EmbedReport

LEFT_OUT_EXIT_CODE, REFUSED_EXIT_CODE = 3, 1
# With --runner, what is no option of this command is one of Beam's.
CONTEXT = {"ignore_unknown_options": True, "allow_extra_args": True}


@with_connection
@with_source_flags
def embed(
    context: typer.Context,
    connection: Connection,
    flags: SourceFlags,
    source: SourceName,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder for the Parquet files.")],
    only: Only = None,
    shard_size: Annotated[int, typer.Option(min=1, max=1_000_000, help="Images per file.")] = 8192,
    retry_left_out: Annotated[
        bool, typer.Option("--retry-left-out", help="Write again the files that left out an image.")
    ] = False,
    strict: Strict = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Remove the files of an earlier run from DIR and start over.")
    ] = False,
    runner: Annotated[
        str | None,
        typer.Option(
            metavar="RUNNER",
            help="Apache Beam runner to encode on: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner. Other "
            "options than these then go to Beam, such as --direct_num_workers=2.",
        ),
    ] = None,
) -> None:
    """Write the latents of every image in SOURCE to Parquet files: key, label, metadata, latent.

    If the command is killed, run it again: it continues with the first unfinished file. It does not notice an image
    that has changed under the same name. Images that cannot be read are listed in DIR/_left-out.jsonl, and the exit
    code is 3. The exit code is 1 if the server refused images that can be decoded here. A server that batches refuses
    good images together with another client's damaged ones; --retry-left-out tries them again.

    With --runner, SOURCE may also be a pattern such as 'photos/**.jpg', and SOURCE and DIR may be URLs that Beam
    reads. A file holds the images whose keys belong to it, about as many as asked for. A job that failed starts over.
    """
    if runner is None:
        refuse_unknown(context)
        report = _here(
            connection, flags, source, Path(out), only=only, shard_items=shard_size, retry_left_out=retry_left_out,
            restart=restart, strict=strict,
        )  # fmt: skip
    elif retry_left_out or connection.model is not None:
        raise ConfigurationError("With --runner, give --server instead of --model, and no --retry-left-out.")
    else:
        report = _on_runner(
            connection, flags, source, out, options=[runner, *context.args], only=only, shard_items=shard_size,
            restart=restart, strict=strict,
        )  # fmt: skip
    _tell(report, out, again="--retry-left-out" if runner is None else "--restart")


def _here(
    connection: Connection,
    flags: SourceFlags,
    source: str,
    out: Path,
    *,
    only: list[str] | None,
    shard_items: int,
    retry_left_out: bool,
    restart: bool,
    strict: bool,
) -> "EmbedReport":
    from ae_search.indexing.shards import embed_source

    images = flags.open(source, only)
    encoder = connection.encoder()
    with progress("encoding", len(images)) as advance:
        try:
            return embed_source(
                images,
                encoder,
                out,
                shard_items=shard_items,
                retry_left_out=retry_left_out,
                restart=restart,
                strict=strict,
                on_progress=advance,
            )
        except (ServerError, KeyboardInterrupt):
            if finished := len(list(out.glob("*.parquet"))):
                say(f"{finished} files are finished; the same command goes on", err=True)
            raise


def _on_runner(
    connection: Connection,
    flags: SourceFlags,
    source: str,
    out: str,
    *,
    options: list[str],
    only: list[str] | None,
    shard_items: int,
    restart: bool,
    strict: bool,
) -> "EmbedReport":
    # Beam logs much, some of it by the root logger itself; what ends a job is raised as well.
    logging.getLogger().addFilter(lambda record: False)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL + 1)
    from ae_search.beam import embed_on_runner, is_direct, options_of

    runner, *others = options
    access = connection.access()
    if (access.token or access.metadata) and not is_direct(runner):
        raise ConfigurationError(
            "A token or header would be written into the job; name a file that all workers have by --token-file."
        )
    try:
        return embed_on_runner(
            source,
            connection.client(),
            out,
            options_of(runner, others),
            only=only or (),
            source_options=flags.options,
            shard_items=shard_items,
            strict=strict,
            restart=restart,
        )
    except KeyboardInterrupt:
        say("interrupted; the same command begins anew", err=True)
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None


def _tell(report: "EmbedReport", out: str, *, again: str) -> None:
    from ae_search.indexing.shards import LEFT_OUT

    model = f"{report.model.name} version {report.model.version}"
    there = f", {report.found} of them from before" if report.found else ""
    left_out = f"{out.rstrip('/')}/{LEFT_OUT}"
    say(f"{out}: {report.images} latents of {model} in {report.shards} files{there}")
    tell_truncated(report.truncated)
    if report.left_out:
        say(f"{len(report.left_out)} images cannot be read and were left out; see {left_out}")
    if report.refused:
        told = f"the server refused {len(report.refused)} images that can be decoded here; see {left_out}"
        say(f"{told}; the same command with {again} tries them again", err=True)
        raise typer.Exit(REFUSED_EXIT_CODE)
    if report.left_out:
        raise typer.Exit(LEFT_OUT_EXIT_CODE)
