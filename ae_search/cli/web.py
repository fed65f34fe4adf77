"""`ae-search web`: the page and the REST service."""

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.options import IndexPlace
from ae_search.cli.terminal import say, set_up
from ae_search.errors import ConfigurationError
from ae_search.open_index import open_index

if TYPE_CHECKING:
    from ae_search.web.encoders import EncoderOptions

_MIB = 2**20
_DOORS, _LIMITS = "Who may come in", "Limits"


@with_connection
def web(
    connection: Connection,
    index: IndexPlace,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.", min=0, max=65535)] = 8600,
    workers: Annotated[int, typer.Option(min=1, help="Processes behind the port; they share the mapped index.")] = 1,
    read_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_DOORS, help="Keys, one a line, without which nobody reads."),
    ] = None,
    write_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_DOORS, help="Keys, one a line, with which items are changed."),
    ] = None,
    writable: Annotated[
        bool,
        typer.Option(
            "--writable", rich_help_panel=_DOORS, help="Let whoever reads change items; on this machine only."
        ),
    ] = False,
    public: Annotated[
        bool,
        typer.Option("--public", rich_help_panel=_DOORS, help="Let anybody read, from other machines as well."),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", rich_help_panel=_DOORS, help="Host name to answer to; repeatable."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", rich_help_panel=_DOORS, help="Site whose scripts may call the service; repeatable."
        ),
    ] = None,
    web_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_DOORS, help="PEM certificate chain of the service: HTTPS."),
    ] = None,
    web_key: Annotated[
        Path | None, typer.Option(metavar="FILE", rich_help_panel=_DOORS, help="PEM private key of --web-cert.")
    ] = None,
    uploads: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", rich_help_panel=_LIMITS, help="Where to keep the images of queries; else while it runs."
        ),
    ] = None,
    keep_hours: Annotated[
        float,
        typer.Option(min=0.0, rich_help_panel=_LIMITS, help="Hours to keep the images of queries; 0 keeps none."),
    ] = 24.0,
    query_log: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            rich_help_panel=_LIMITS,
            help="Folder of Parquet files to note figures of queries in; see `drift`.",
        ),
    ] = None,
    query_log_latents: Annotated[
        bool,
        typer.Option(
            "--query-log-latents",
            rich_help_panel=_LIMITS,
            help="Note the latents of queries too, which can be decoded back into images.",
        ),
    ] = False,
    max_requests: Annotated[
        int, typer.Option(min=1, rich_help_panel=_LIMITS, help="Requests under way in a process.")
    ] = 128,
    max_body_mib: Annotated[
        int, typer.Option(min=1, max=1024, rich_help_panel=_LIMITS, help="Size of the largest body, in MiB.")
    ] = 64,
    drain_s: Annotated[
        float,
        typer.Option(min=0.1, rich_help_panel=_LIMITS, help="Seconds that requests get to finish at the end."),
    ] = 10.0,
) -> None:
    """Serve the page and the REST service over an index, to search it by image; --timeout bounds an answer."""
    from ae_search.web import AccessKeys, Doors, Limits, LogOptions, ServiceOptions, UploadOptions, serve

    if query_log_latents and query_log is None:
        raise ConfigurationError("--query-log-latents goes with --query-log DIR.")
    options = ServiceOptions(
        place=index,
        encoder=_encoder(connection, index),
        doors=Doors(
            host=host,
            port=port,
            keys=AccessKeys.from_files(read_key_file, write_key_file, open_writes=writable),
            public=public,
            names=tuple(allowed_host or ()),
            origins=tuple(cors_origin or ()),
            certificate=web_cert,
            key=web_key,
        ),
        limits=Limits(
            requests=max_requests,
            body_bytes=max_body_mib * _MIB,
            held_bytes=max(256, max_body_mib) * _MIB,
            deadline_s=connection.timeout,
            drain_s=drain_s,
        ),
        uploads=UploadOptions(uploads, kept_s=keep_hours * 3600),
        query_log=None if query_log is None else LogOptions(query_log.absolute(), query_log_latents),
        workers=workers,
        server=connection.server,
        model=None if connection.model is None else str(connection.model),
        prepare=partial(set_up, logging.getLogger().level),
    )
    serve(options, lambda address: say(f"serving {index} on {address}"))


def _encoder(connection: Connection, index: str) -> "EncoderOptions":
    """Return where latents come from; nothing is loaded or asked yet."""
    from ae_search.web import InProcess, Served

    if (connection.server is None) == (connection.model is None):
        raise ConfigurationError("Give either --server HOST:PORT or --model EXPORT, one of them.")
    if connection.model is not None:
        if connection.model_label is not None:
            raise ConfigurationError("--model runs a folder, which has no labels; name the version by --model-version.")
        return InProcess(connection.model.absolute(), connection.model_version, connection.trust)
    if connection.trust:
        raise ConfigurationError("--trust goes with --model, whose program runs in this process.")
    assert connection.server is not None
    with open_index(index) as opened:
        name = connection.model_name or opened.model.name
    return Served(
        connection.server,
        name,
        connection.model_version,
        connection.model_label,
        connection.access(),
        connection.timeout,
        connection.total_timeout,
    )
