"""`ae-search index`: build an index, change it, look at it."""

import typer

from ae_search.cli.index import build, change, exchange, look, sync
from ae_search.cli.terminal import PrintableGroup

app = typer.Typer(cls=PrintableGroup, help="Build an index of latents, change it, look at it.", no_args_is_help=True)
app.command()(build.build)
app.command()(change.add)
app.command()(change.update)
app.command()(sync.sync)
app.command()(change.remove)
app.command()(change.compact)
app.command()(build.rebuild)
app.command()(change.tune)
app.command()(look.info)
app.command()(look.warm)
app.command()(look.verify)
app.command()(look.duplicates)
app.command("export")(exchange.export)
app.command("import")(exchange.import_)
