"""Pictures to judge by: reconstructions, and what single queries found."""

from collections.abc import Sequence

from ae_search.evaluation.report.markup import Markup, decimal, element, key_text, label_text, name_of, section
from ae_search.evaluation.report.pictures import Album, pixels_file
from ae_search.evaluation.shown import Answer, Examples, QueryResult, Reconstructions

MAX_QUERIES = 8
MAX_NEIGHBOURS = 10
MAX_RECONSTRUCTIONS = 12


def reconstructions(shown: Reconstructions, album: Album) -> Markup:
    """Return originals above their reconstructions."""
    pairs = []
    for at in range(min(MAX_RECONSTRUCTIONS, len(shown.originals))):
        label = shown.labels[at]
        told = label_text(label)
        above = album.image(pixels_file(shown.originals[at]), f"original, {told}")
        below = album.image(pixels_file(shown.reconstructions[at]), f"reconstruction, {told}")
        pairs.append(element("li", above, below, element("small", name_of(label)) if label is not None else ""))
    lead = element(
        "p",
        "Above each original, below what the decoder makes of its latent: what is gone there, a search cannot see. "
        f"Mean squared error {decimal(shown.mean_squared_error, 4)} of brightness in 0 to 1.",
    )
    return section("kept", "What the latents keep", lead, element("ul", *pairs, cls="pairs"))


def neighbours(examples: Examples, album: Album) -> Markup:
    """Return queries with all neighbours right, with a wrong first one, and those with the worst figures."""
    groups = (
        ("Hits", "All neighbours have the query's label; drawn at random.", examples.hits),
        ("Misses", "The first neighbour has another label; drawn at random.", examples.misses),
        ("Worst cases", "The lowest precision@10 of all queries, the worst first.", examples.worst),
    )
    lead = "A query and its nearest items, the nearest first: ✓ is an item of the query's label, ✗ of another."
    shown = [_group(*group, album) for group in groups if group[2]]
    return section("neighbours", "Neighbours", element("p", lead), *shown)


def _group(title: str, told: str, queries: Sequence[QueryResult], album: Album) -> Markup:
    rows = [_query(query, album) for query in queries[:MAX_QUERIES]]
    return element("div", element("h3", title), element("p", told, cls="note"), *rows, cls="group")


def _query(query: QueryResult, album: Album) -> Markup:
    about = element(
        "div",
        element("strong", name_of(query.label)),
        element("small", element("bdi", key_text(query.key, 24)), cls="key", attributes={"title": key_text(query.key)}),
        element("small", f"P@10 {decimal(query.precision_at_10, 2)} · AP {decimal(query.average_precision, 2)}"),
    )
    asked = element("div", album.image(query.picture, f"query, {label_text(query.label)}"), about, cls="asked")
    found = [_answer(rank, one, query.label, album) for rank, one in enumerate(query.neighbours[:MAX_NEIGHBOURS], 1)]
    return element("div", asked, element("ol", *found, cls="found"), cls="query")


def _answer(rank: int, answer: Answer, wanted: str | None, album: Album) -> Markup:
    right = answer.label is not None and answer.label == wanted
    sign = element("span", "✓" if right else "✗", cls="sign", attributes={"aria-hidden": "true"})
    verdict = "right" if right else "wrong"
    alt = f"neighbour {rank}, {verdict}: {label_text(answer.label)}"
    frame = element("span", album.image(answer.picture, alt), sign, cls=f"frame {verdict}")
    title = f"{key_text(answer.key)}, similarity {decimal(answer.similarity)}"
    name = element("small", name_of(answer.label), cls="name")
    return element("li", frame, name, element("small", decimal(answer.similarity)), attributes={"title": title})
