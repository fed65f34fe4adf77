"""Figures beside those of the baselines, by label and by alteration, and whose neighbours are whose."""

import math
from collections.abc import Sequence

import numpy as np

from ae_search.evaluation.report.charts import bars
from ae_search.evaluation.report.markup import Markup, decimal, element, joined, label_text, name_of, section, table
from ae_search.evaluation.results import (
    RANKS,
    Against,
    Confusion,
    Evaluation,
    MissingOriginals,
    Retrieval,
    ReverseSearch,
)

MAX_LABELS = 30
MAX_CONFUSED = 20

_HEATS = 10
# So large a share of wrong neighbours has the strongest colour.
_STRONG_CONFUSION = 0.3
# Wider headers than these stand upright.
_HEADER_LETTERS = 120


def baselines(rows: Sequence[Retrieval]) -> Markup:
    """Return precision and mAP of ours and of the baselines."""
    best = max(rows[1:], key=lambda row: row.mean_average_precision, default=None)
    measures = [(f"precision@{k}", [row.precision.get(k, math.nan) for row in rows]) for k in RANKS]
    measures.append(("mAP@1000", [row.mean_average_precision for row in rows]))
    charts = [bars(name, list(zip([row.name for row in rows], values, strict=True))) for name, values in measures]
    body = []
    for at, row in enumerate(rows):
        figures = [_best(decimal(values[at]), values[at], values) for _, values in measures]
        body.append([name_of(row.name), element("td", f"{row.floats:,}"), *figures])
    lead: tuple[object, ...] = (
        "Precision@k is the share of a query's k nearest items that have its label; mAP@1000 also counts how early "
        "they come. All by exact search: this compares the representations, not the index. ",
    )
    if best is not None:
        difference = rows[0].mean_average_precision - best.mean_average_precision
        lead += ("By mAP@1000, ", name_of(rows[0].name), f" is {_difference(difference)} ", name_of(best.name), ".")
    head = ["representation", "floats", *(name for name, _ in measures)]
    return section(
        "baselines",
        "Beside the baselines" if len(rows) > 1 else "Retrieval",
        element("p", *lead),
        element("div", *charts, cls="panels"),
        table(head, body, caption="Retrieval by representation; ★ is the best of a column", cls="figures"),
    )


def _difference(value: float) -> str:
    if not math.isfinite(value):
        return "not comparable with"
    if abs(value) < 0.0005:
        return "level with the best baseline,"
    return f"{abs(value):.3f} {'above' if value > 0 else 'below'} the best baseline,"


def _best(content: str, value: float, among: Sequence[float], cls: str = "") -> Markup:
    """Return a cell, marked where nothing among its equals is better and something is worse."""
    best = math.isfinite(value) and value >= np.nanmax(among) > np.nanmin(among)
    star = (element("span", "★ ", cls="star", attributes={"title": "best"}),) if best else ()
    return element("td", *star, content, cls=f"{cls} best".strip() if best else cls)


def heat(value: float, strongest: float = 1.0) -> str:
    """Return the classes of a cell whose colour tells its figure, from 0 to `strongest`."""
    share = min(max(value / strongest, 0.0), 1.0) if math.isfinite(value) else 0.0
    return f"heat h{round(share * _HEATS)}"


def by_label(rows: Sequence[Retrieval]) -> Markup | None:
    """Return precision@10 of each label, the worst first; None where there are not two labels to tell apart."""
    ours = rows[0].precision_by_label
    if len(ours) < 2:
        return None
    worst_first = sorted(ours, key=lambda label: (ours[label], label))
    body = []
    for at, label in enumerate(worst_first[:MAX_LABELS]):
        values = [row.precision_by_label.get(label, math.nan) for row in rows]
        worst = (element("span", " ▼ worst", cls="wrong"),) if at == 0 else ()
        cells = [_best(decimal(value, 2), value, values, heat(value)) for value in values]
        body.append([joined((name_of(label), *worst)), *cells])
    lead = element(
        "p",
        *("Precision@10 of the queries of each label. The worst is ", name_of(worst_first[0])),
        f" with {decimal(ours[worst_first[0]], 2)}; the best is ",
        *(name_of(worst_first[-1]), f" with {decimal(ours[worst_first[-1]], 2)}."),
    )
    more = len(ours) - len(body)
    rest = (element("p", f"{more:,} more labels, all better than these, are not shown.", cls="note"),) if more else ()
    head = ["label", *(name_of(row.name) for row in rows)]
    shown = table(head, body, caption="Precision@10 by label, the worst first; ★ is the best of a row", cls="figures")
    return section("labels", "By label", lead, shown, *rest)


def altered(rows: Sequence[ReverseSearch]) -> Markup:
    """Return how often an indexed image comes first for an altered copy of it."""
    alterations = list(dict.fromkeys(name for row in rows for name in row.found_first))
    timed = any(row.ms is not None for row in rows)
    body: list[list[Markup | str]] = []
    for alteration in alterations:
        values = [row.found_first.get(alteration, math.nan) for row in rows]
        body.append([name_of(alteration), *(_best(decimal(one, 2), one, values, heat(one)) for one in values)])
    means = [row.mean if row.found_first else math.nan for row in rows]
    body.append(["mean", *(_best(decimal(one, 2), one, means, heat(one)) for one in means)])
    if timed:
        body.append(["median time, ms", *(element("td", decimal(row.ms)) for row in rows)])
    lead = (
        f"{rows[0].queries:,} indexed images were altered in each of these ways and searched for. The figure is the "
        "share whose original came first; everything else counts as a miss, however alike it looks."
    )
    if len(rows) > 1:
        lead += " Our latents are searched through the index, the baselines are compared with every item."
    head = ["alteration", *(name_of(row.name) for row in rows)]
    caption = "Share found first, by alteration; ★ is the best of a row"
    shown = table(head, body, caption=caption, cls="figures")
    return section("altered", "Found again when altered", element("p", lead), shown)


def missing(rows: Sequence[MissingOriginals]) -> Markup:
    """Return how well right answers are told from wrong ones, where half of the originals are hidden."""
    body = [
        [
            name_of(row.name),
            "score" if row.normalised else "similarity",
            element("td", decimal(row.micro_average_precision)),
            element("td", decimal(row.recall_at_precision_90)),
        ]
        for row in rows
    ]
    lead = (
        f"{rows[0].queries:,} altered images were searched for, and for half of them the original was hidden. All "
        "first answers are ranked together, by similarity or by a score that allows for what is usual for a query. "
        "Micro-AP is their average precision; recall is the share of originals found where 9 of 10 answers are right."
    )
    head = ["searched by", "ranked by", "micro-AP", "recall at precision 0.9"]
    shown = table(head, body, caption="Knowing that the original is not there", cls="figures")
    return section("missing", "When the original is not there", element("p", lead), shown)


def against(found: Evaluation, other: Against) -> Markup:
    """Return the index's latents beside those of another export."""
    model = found.model
    names = [f"{model.name} version {model.version}", f"{other.model} version {other.version}"]
    floats, precisions = (found.latent_dim, other.floats), (other.ours or {}, other.precision or {})
    body = []
    for name, count, precision in zip(names, floats, precisions, strict=True):
        figures = [
            _best(decimal(share), share, [one.get(k, math.nan) for one in precisions]) for k, share in precision.items()
        ]
        body.append([name_of(name), element("td", f"{count:,}"), *figures])
    lead = element(
        "p",
        *("Of the ten neighbours that the index's latents find, ", name_of(names[1])),
        f" finds {other.overlap:.1%} as well. Both were searched exactly, for the same {other.queries:,} queries among "
        f"the same {other.items:,} items.",
    )
    head = ["encoder", "floats", *(f"precision@{k}" for k in precisions[0])]
    shown = table(head, body, caption="Retrieval by encoder; ★ is the best of a column", cls="figures")
    return section("against", "Beside another encoder", lead, shown)


def confusion(found: Confusion) -> Markup:
    """Return whose neighbours are whose, for the labels whose neighbours are most often wrong."""
    queried = np.flatnonzero(found.shares.sum(axis=1) > 0)
    worst = sorted(queried, key=lambda at: float(found.shares[at, at]))[:MAX_CONFUSED]
    shown = sorted(int(at) for at in worst)
    lead = element(
        "p",
        "Each row tells which labels the 10 neighbours of the queries of one label have. "
        "The framed cells are right; everything beside them is a mix-up. ",
        *_worst_pairs(found, shown),
    )
    return section("mixed", "Which labels are mixed up", lead, _shares(found, shown))


def _shares(found: Confusion, shown: Sequence[int]) -> Markup:
    cut = len(shown) < len(found.labels)
    body = []
    for row in shown:
        cells = [_confused(found, row, column) for column in shown]
        if cut:
            cells.append(element("td", _told(1.0 - float(found.shares[row, shown].sum()))))
        body.append([name_of(found.labels[row]), *cells])
    head = ["query", *(name_of(found.labels[at]) for at in shown), *([name_of("others, or none")] if cut else [])]
    letters = max(len(label_text(found.labels[at])) for at in shown) * len(shown)
    cls = "figures confusion" + (" upright" if letters > _HEADER_LETTERS else "")
    caption = "Share of the neighbours by label: a row is the query's label, a column the neighbour's"
    return table(head, body, caption=caption, cls=cls)


def _confused(found: Confusion, row: int, column: int) -> Markup:
    share = float(found.shares[row, column])
    if row == column:
        return element("td", decimal(share, 2), cls=f"{heat(share)} diagonal")
    return element("td", _told(share), cls=f"{heat(share, _STRONG_CONFUSION)} off")


def _told(share: float) -> str:
    return decimal(share, 2) if share >= 0.005 else "·"


def _worst_pairs(found: Confusion, shown: Sequence[int]) -> list[object]:
    """Return a sentence with the three largest mix-ups."""
    pairs = [(float(found.shares[row, at]), row, at) for row in shown for at in range(len(found.labels)) if at != row]
    largest = [pair for pair in sorted(pairs, reverse=True)[:3] if pair[0] >= 0.005]
    if not largest:
        return ["No label is mixed up with another in more than 0.5 % of the neighbours."]
    words: list[object] = ["Most often: "]
    for at, (share, row, column) in enumerate(largest):
        words += ["; " if at else "", name_of(found.labels[row]), " finds ", name_of(found.labels[column])]
        words.append(f" ({share:.0%} of its neighbours)")
    return [*words, "."]
