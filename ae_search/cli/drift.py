"""`ae-search drift`."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ae_search import trust
from ae_search.cli.options import IndexPlace
from ae_search.cli.terminal import say, say_json, show_table
from ae_search.drift import Drift, compare, read_log
from ae_search.errors import ConfigurationError
from ae_search.open_index import open_index


def drift(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that --query-log has written.")],
    index: IndexPlace,
    since: Annotated[
        datetime | None, typer.Option(metavar="TIME", help="Time of the first query that counts, UTC, as 2026-11-30.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw queries beside held-out items.")] = None,
) -> None:
    """Print how far the queries in DIR have moved from what is usual for the index.

    They are compared with what `ae-search index build` keeps of held-out items: the similarity of the first neighbour,
    the distance to the tenth, and the reconstruction error where queries have it. A population stability index below
    0.1 is as usual; from 0.25 on the queries have moved: look at them, and think of training on what they show.
    """
    with open_index(index) as opened:
        usual, model = trust.stored(opened), opened.model
    if usual is None:
        raise ConfigurationError(
            f"{index} does not keep what is usual; `ae-search index tune` measures it, in an index of at least "
            f"{trust.FEWEST_ITEMS} items."
        )
    since_s = float("-inf") if since is None else since.replace(tzinfo=UTC).timestamp()
    logged = read_log(folder, model.fingerprint, since_s=since_s)
    found = compare(logged, usual)
    if as_json:
        verdicts = [asdict(measure) | {"verdict": measure.verdict} for measure in found.measures]
        say_json(json.dumps(asdict(found) | {"verdict": found.verdict, "measures": verdicts}, indent=2))
    else:
        _show(found)
    if plot is not None:
        from ae_search.plots import plot_drift

        plot_drift(logged, usual, found, plot)
        say(f"wrote {plot}", err=True)


def _show(found: Drift) -> None:
    rows = [
        (one.name, one.verdict, f"{one.psi:.3f}", f"{one.ks:.3f}", f"{one.p_value:.2g}", str(one.queries),
         f"{one.usual_median:.4f}", f"{one.median:.4f}")
        for one in found.measures
    ]  # fmt: skip
    title = f"{found.queries} queries: {found.verdict}; {found.distrusted:.1%} {trust.UNLIKE}"
    show_table(title, ("figure", "verdict", "PSI", "KS", "p", "queries", "usual median", "median"), rows)
    windows = [
        (_time(one.first_s), _time(one.last_s), str(one.queries), f"{one.psi:.3f}", f"{one.distrusted:.1%}")
        for one in found.windows
    ]
    show_table("over time, by distance", ("from", "to", "queries", "PSI", "distrusted"), windows)
    if found.others:
        say(f"{found.others} queries of other models were left out", err=True)


def _time(time_s: float) -> str:
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # no time that a calendar has
        return str(time_s)
