"""The page: head, headline figures, sections and where the figures come from."""

import base64
import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from ae_search.evaluation.report import latent_map, picture_rows, tables
from ae_search.evaluation.report.charts import recall_curve
from ae_search.evaluation.report.markup import (
    SENTENCE_CHARACTERS,
    Markup,
    decimal,
    element,
    joined,
    name_of,
    section,
    shortened,
    table,
)
from ae_search.evaluation.report.pictures import MAX_TOTAL_BYTES, Album
from ae_search.evaluation.results import Evaluation, Retrieval

MAX_TOLD = 20

_PACKAGES = ("ae-search", "annoy", "numpy", "pillow", "keras", "tensorflow", "scikit-learn")


def page(evaluation: Evaluation, *, max_picture_bytes: int = MAX_TOTAL_BYTES) -> str:
    """Return the report as one HTML document that loads nothing; its pictures take about `max_picture_bytes`."""
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    # Nothing but this style may act, and nothing may be loaded, whatever slips through.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = f"Evaluation of {shortened(evaluation.model.name)}, version {evaluation.model.version}"
    album = Album(max_picture_bytes)
    parts = _sections(evaluation, album)
    head = element(
        "head",
        element("meta", attributes={"charset": "utf-8"}),
        element("meta", attributes={"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", attributes={"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", attributes={"name": "color-scheme", "content": "light dark"}),
        element("title", title),
        element("style", Markup(style)),
    )
    body = element("body", _header(evaluation, parts), element("main", *parts.values()), _footer(evaluation, album))
    return "<!doctype html>\n" + element("html", head, body, attributes={"lang": "en"}) + "\n"


def _sections(evaluation: Evaluation, album: Album) -> dict[str, Markup]:
    """Return the sections that have something to show, by name; what is first gets its pictures first."""
    found: dict[str, Markup | None] = {}
    if evaluation.retrieval:
        found["Baselines"] = tables.baselines(evaluation.retrieval)
        found["Labels"] = tables.by_label(evaluation.retrieval)
    if evaluation.against is not None:
        found["Other encoder"] = tables.against(evaluation, evaluation.against)
    if any(row.found_first for row in evaluation.reverse_search):
        found["Altered images"] = tables.altered(evaluation.reverse_search)
    if evaluation.missing_originals:
        found["Missing originals"] = tables.missing(evaluation.missing_originals)
    shown = evaluation.examples
    if shown.hits or shown.misses or shown.worst:
        found["Neighbours"] = picture_rows.neighbours(shown, album)
    if evaluation.confusion is not None and evaluation.confusion.shares.any():
        found["Mix-ups"] = tables.confusion(evaluation.confusion)
    if evaluation.reconstructions is not None and len(evaluation.reconstructions.originals):
        found["Reconstructions"] = picture_rows.reconstructions(evaluation.reconstructions, album)
    if len(evaluation.latents.latents):
        found["Map"] = _map(evaluation, album)
    found["Index"] = _index(evaluation)
    return {name: one for name, one in found.items() if one is not None}


def _header(evaluation: Evaluation, parts: dict[str, Markup]) -> Markup:
    model = evaluation.model
    lead = element(
        "p",
        *(f"{evaluation.queries:,} queries from ", name_of(evaluation.source), " were searched among "),
        f"{evaluation.items:,} indexed images by latents of {evaluation.latent_dim:,} floats "
        f"({evaluation.metric} distance).",
        cls="lead",
    )
    links = [element("a", name, attributes={"href": f"#{_anchor(part)}"}) for name, part in parts.items()]
    notes = [element("li", shortened(note, SENTENCE_CHARACTERS)) for note in evaluation.notes[:MAX_TOLD]]
    return element(
        "header",
        element("p", "ae-search · evaluation", cls="eyebrow"),
        element("h1", name_of(model.name), f", version {model.version}"),
        lead,
        _tiles(evaluation),
        element("ul", *notes, cls="notes") if notes else "",
        element("nav", *links, attributes={"aria-label": "Sections"}),
    )


def _anchor(part: Markup) -> str:
    return part.partition(' id="')[2].partition('"')[0]


def _tiles(evaluation: Evaluation) -> Markup:
    """Return the headline figures, each with what to hold it against."""
    tiles = []
    if evaluation.retrieval:
        ours, *others = evaluation.retrieval
        tiles.append(_tile("precision@10", decimal(ours.precision.get(10)), _best_of(others, 10)))
        tiles.append(_tile("mAP@1000", decimal(ours.mean_average_precision), _best_of(others, None)))
    if any(row.found_first for row in evaluation.reverse_search):
        first, *rest = evaluation.reverse_search
        best = max((row for row in rest if row.found_first), key=lambda row: row.mean, default=None)
        told = f"{shortened(best.name, 24)} {decimal(best.mean)}" if best else "mean over the alterations"
        tiles.append(_tile("altered, found first", decimal(first.mean if first.found_first else None), told))
    recall = evaluation.recall
    tiles.append(_tile("index recall@10", decimal(recall.recall_at_10), f"of exact search, effort {recall.effort}"))
    told = f"99 % within {decimal(recall.p99_ms, 2)} ms"
    tiles.append(_tile("one search of the index", f"{decimal(recall.median_ms, 2)} ms", told))
    return element("dl", *tiles, cls="tiles")


def _tile(name: str, figure: str, told: str) -> Markup:
    content = (element("dt", name), element("dd", figure, cls="figure"), element("dd", told, cls="told"))
    return element("div", *content, cls="tile")


def _best_of(others: list[Retrieval], k: int | None) -> str:
    figures = {
        row.name: row.mean_average_precision if k is None else row.precision[k]
        for row in others
        if k is None or k in row.precision
    }
    if not figures:
        return "no baseline"
    best = max(figures, key=lambda name: figures[name])
    return f"best baseline: {shortened(best, 24)} {decimal(figures[best])}"


def _map(evaluation: Evaluation, album: Album) -> Markup | None:
    laid = latent_map.project(evaluation.latents, angular=evaluation.metric == "angular", seed=evaluation.seed)
    if not len(laid.rows):
        return None
    pictures = latent_map.pictures_figure(evaluation.latents, laid, album)
    lead = (
        f"A sample of {len(laid.rows):,} indexed latents, brought from {evaluation.latent_dim:,} to two dimensions by "
        f"{laid.method}. What is near was near before; distances between far groups and the axes mean nothing."
    )
    figures = [latent_map.marks_figure(evaluation.latents, laid), *([pictures] if pictures else [])]
    return section("map", "Map of the latents", element("p", lead), element("div", *figures, cls="maps"))


def _index(evaluation: Evaluation) -> Markup:
    recall = evaluation.recall
    lead = element(
        "p",
        f"The index finds {decimal(recall.recall_at_10)} of the 10 true neighbours that exact search finds, measured "
        f"with {recall.queries:,} queries. A larger effort looks at more candidates: it finds more and takes longer.",
    )
    if not recall.curve:
        return section("index", "The index: recall against time", lead)
    rows = [
        [
            f"{one.effort:,}" + (" (tuned)" if one.effort == recall.effort else ""),
            *map(decimal, (one.recall, one.latency_ms)),
        ]
        for one in recall.curve[:MAX_TOLD]
    ]
    measured = table(["effort", "recall@10", "median ms"], rows, caption="Recall by effort", cls="figures")
    details = element("details", element("summary", "The curve as a table"), measured)
    return section("index", "The index: recall against time", lead, element("figure", recall_curve(recall)), details)


def _footer(evaluation: Evaluation, album: Album) -> Markup:
    """Return what one needs to repeat the evaluation."""
    height, width, channels = evaluation.image_shape
    entries = {
        "model": joined((name_of(evaluation.model.name), f", version {evaluation.model.version}")),
        "fingerprint": element("code", shortened(evaluation.model.fingerprint, 64)),
        "images": f"{height} × {width} px, {channels} channel{'s' if channels > 1 else ''}",
        "index": element("code", element("bdi", shortened(evaluation.index, 120))),
        "queries from": joined((name_of(evaluation.source), f", {evaluation.queries:,}, seed {evaluation.seed}")),
        "date": shortened(evaluation.created),
        "versions": ", ".join(_versions()),
    }
    if album.left_out:
        entries["left out"] = f"{album.left_out:,} pictures, to keep the file small"
    listed = [joined((element("dt", name), element("dd", content))) for name, content in entries.items()]
    return element(
        "footer", element("h2", "Where the figures come from"), element("dl", *listed), *_damaged(evaluation.damaged)
    )


def _versions() -> list[str]:
    told = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            told.append(f"{package} {version(package)}")
        except PackageNotFoundError:  # an extra that is not installed
            continue
    return told


def _damaged(damaged: dict[str, str]) -> list[Markup]:
    if not damaged:
        return []
    told = list(damaged.items())[:MAX_TOLD]
    rows = [[element("bdi", shortened(key, 80)), shortened(reason, SENTENCE_CHARACTERS)] for key, reason in told]
    caption = f"{len(rows)} of {len(damaged):,} images that were left out" if len(rows) < len(damaged) else "Left out"
    return [table(["image", "reason"], rows, caption=caption)]
