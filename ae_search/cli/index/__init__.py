"""`ae-search index`: build an index, change it, look at it."""

from typing import TYPE_CHECKING, Any

import typer

from ae_search.cli.terminal import PrintableGroup

if TYPE_CHECKING:
    app: typer.Typer


def __getattr__(name: str) -> Any:
    """Return `app`; a query needs some of the options of this room, and none of its commands."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = _app()
    return globals()["app"]


def _app() -> typer.Typer:
    from ae_search.cli.index import build, change, exchange, look, sync

    made = typer.Typer(
        cls=PrintableGroup, help="Build an index of latents, change it, look at it.", no_args_is_help=True
    )
    for command in (
        build.build,
        change.add,
        change.update,
        sync.sync,
        change.remove,
        change.compact,
        build.rebuild,
        change.tune,
        look.info,
        look.warm,
        look.verify,
        look.duplicates,
    ):
        made.command()(command)
    made.command("export")(exchange.export)
    made.command("import")(exchange.import_)
    return made
