"""The figures of an evaluation as tables."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from ae_search.evaluation import Evaluation


def print_figures(result: "Evaluation") -> None:
    """Print all figures to stdout."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    model = result.model
    console.print(
        f"{result.index}: {result.items} items of {model.name} version {model.version} ({result.latent_dim} floats, "
        f"{result.metric}); {result.queries} queries of {result.source}, seed {result.seed}",
        markup=False,
        highlight=False,
    )
    if result.retrieval:
        console.print(_retrieval(result), _by_label(result))
    if result.reverse_search:
        console.print(_reverse(result))
    console.print(_recall(result))
    for note in result.notes:
        console.print(note, markup=False, highlight=False)


def _retrieval(result: "Evaluation") -> "Table":
    from rich.table import Column, Table
    from rich.text import Text

    ranks = sorted(result.retrieval[0].precision)
    heads = ["vectors", "floats", *(f"P@{k}" for k in ranks), "mAP@1000"]
    title = "Neighbours that have the query's label: precision P@k, and the label with the lowest P@10"
    table = Table(*heads, Column("worst label", overflow="fold"), title=title)
    for row in result.retrieval:
        shares = [row.precision[k] for k in ranks] + [row.mean_average_precision]
        worst = f"{row.worst_label} {row.precision_by_label[row.worst_label]:.3f}"
        # Text: names and labels are strangers' words, not rich's markup.
        table.add_row(Text(row.name), str(row.floats), *(f"{share:.3f}" for share in shares), Text(worst))
    return table


def _by_label(result: "Evaluation") -> "Table":
    from rich.table import Column, Table
    from rich.text import Text

    ours, *_ = rows = result.retrieval
    first, others = Column("label", overflow="fold"), [Column(Text(row.name)) for row in rows]
    table = Table(first, *others, "", title="P@10 by label")
    for label in ours.precision_by_label:
        worst = "<- worst" if label == ours.worst_label else ""
        table.add_row(Text(label), *(f"{row.precision_by_label[label]:.3f}" for row in rows), worst)
    return table


def _reverse(result: "Evaluation") -> "Table":
    from rich.table import Column, Table
    from rich.text import Text

    rows = result.reverse_search
    title = f"Strict reverse search: originals that come first, of {rows[0].queries}"
    table = Table("altered by", *(Column(Text(row.name)) for row in rows), title=title)
    for way in rows[0].found_first:
        table.add_row(way, *(f"{row.found_first[way]:.3f}" for row in rows))
    table.add_section()
    table.add_row("mean", *(f"{row.mean:.3f}" for row in rows))
    table.add_row("ms a query", *("" if row.ms is None else f"{row.ms:.2f}" for row in rows))
    return table


def _recall(result: "Evaluation") -> "Table":
    from rich.table import Table

    recall = result.recall
    title = f"Index against exact search, {recall.queries} queries"
    table = Table("search_k", "recall@10", "median ms", "", title=title)
    for point in recall.curve:
        used = f"<- used; p99 {recall.p99_ms:.2f} ms" if point.search_k == recall.search_k else ""
        share = f"{point.recall:.4f} +- {point.error:.4f}"
        table.add_row(str(point.search_k), share, f"{point.latency_ms:.3f}", used)
    return table
