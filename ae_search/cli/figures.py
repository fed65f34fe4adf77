"""The figures of an evaluation as tables."""

from typing import TYPE_CHECKING

from ae_search.cli.terminal import say, show_table

if TYPE_CHECKING:
    from ae_search.evaluation import Evaluation
    from ae_search.evaluation.results import Against


def print_figures(result: "Evaluation") -> None:
    """Print all figures to stdout."""
    model = result.model
    say(
        f"{result.index}: {result.items} items of {model.name} version {model.version} ({result.latent_dim} floats, "
        f"{result.metric}); {result.queries} queries of {result.source}, seed {result.seed}"
    )
    if result.retrieval:
        _retrieval(result)
        _by_label(result)
    if result.reverse_search:
        _reverse(result)
    if result.missing_originals:
        _missing(result)
    if result.against is not None:
        _against(result, result.against)
    _recall(result)
    for note in result.notes:
        say(note)


def _retrieval(result: "Evaluation") -> None:
    ranks = sorted(result.retrieval[0].precision)
    title = "Neighbours that have the query's label: precision P@k, and the label with the lowest P@10"
    rows = []
    for row in result.retrieval:
        shares = [row.precision[k] for k in ranks] + [row.mean_average_precision]
        worst = f"{row.worst_label} {row.precision_by_label[row.worst_label]:.3f}"
        rows.append([row.name, str(row.floats), *(f"{share:.3f}" for share in shares), worst])
    show_table(title, ["vectors", "floats", *(f"P@{k}" for k in ranks), "mAP@1000", "worst label"], rows)


def _by_label(result: "Evaluation") -> None:
    ours, *_ = compared = result.retrieval
    rows = []
    for label in ours.precision_by_label:
        worst = "<- worst" if label == ours.worst_label else ""
        rows.append([label, *(f"{row.precision_by_label[label]:.3f}" for row in compared), worst])
    show_table("P@10 by label", ["label", *(row.name for row in compared), ""], rows)


def _reverse(result: "Evaluation") -> None:
    compared = result.reverse_search
    ways = [[way, *(f"{row.found_first[way]:.3f}" for row in compared)] for way in compared[0].found_first]
    mean = ["mean", *(f"{row.mean:.3f}" for row in compared)]
    spent = ["ms a query", *("" if row.ms is None else f"{row.ms:.2f}" for row in compared)]
    title = f"Strict reverse search: originals that come first, of {compared[0].queries}"
    show_table(title, ["altered by", *(row.name for row in compared)], [*ways, None, mean, spent])


def _missing(result: "Evaluation") -> None:
    rows = [
        [
            row.name,
            "score" if row.normalised else "similarity",
            f"{row.micro_average_precision:.3f}",
            f"{row.recall_at_precision_90:.3f}",
        ]
        for row in result.missing_originals
    ]
    title = f"Half of the originals are hidden, {result.missing_originals[0].queries} altered images"
    show_table(title, ["searched by", "ranked by", "micro-AP", "recall at precision 0.9"], rows)


def _against(result: "Evaluation", other: "Against") -> None:
    model = result.model
    rows = []
    ours = (f"{model.name} version {model.version}", result.latent_dim, other.ours)
    for name, floats, precision in (ours, (f"{other.model} version {other.version}", other.floats, other.precision)):
        rows.append([name, str(floats), *(f"{share:.3f}" for share in (precision or {}).values())])
    title = (
        f"The index beside {other.model} version {other.version}, {other.queries} queries among {other.items} items: "
        f"{other.overlap:.1%} of the first ten neighbours are the same"
    )
    show_table(title, ["encoder", "floats", *(f"P@{k}" for k in other.ours or {})], rows)


def _recall(result: "Evaluation") -> None:
    recall = result.recall
    rows = []
    for point in recall.curve:
        used = f"<- used; p99 {recall.p99_ms:.2f} ms" if point.effort == recall.effort else ""
        share = f"{point.recall:.4f} +- {point.error:.4f}"
        rows.append((str(point.effort), share, f"{point.latency_ms:.3f}", used))
    title = f"Index against exact search, {recall.queries} queries"
    show_table(title, ("effort", "recall@10", "median ms", ""), rows)
