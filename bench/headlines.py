"""Which figures of each benchmark are followed over versions, and what they are compared with."""

from collections.abc import Callable
from statistics import fmean
from typing import Any

from bench.record import Figure, beside

Details = dict[str, Any]

# An engine of ours, and what it is compared with at the same recall.
ENGINES = {"ae-search": "annoy", "ae-search faiss": "faiss IVF"}
RECALL = "0.99"


def headlines(name: str, details: Details) -> list[Figure]:
    """Return the figures of one benchmark to follow over versions; parts that were not measured have none."""
    return BENCHMARKS[name](details)


def _index(details: Details) -> list[Figure]:
    return [figure for data in details["data_sets"] for figure in _of_set(data)]


def _of_set(data: Details) -> list[Figure]:
    figures, where = [], f"{data['name']}, {data['items']:,}"
    for name, peer in ENGINES.items():
        ours, theirs = data["engines"].get(name), data["engines"].get(peer)
        if not ours or not theirs:
            continue
        at, of_peer = ours["at"].get(RECALL), theirs["at"].get(RECALL)
        told = f"{name}, {where}"
        figures.append(beside(f"build, {told}", ours["seconds"]["wall"], "s", (peer, theirs["seconds"]["wall"])))
        if at and of_peer:
            query, batch = f"one query at recall {RECALL}, {told}", f"batch at recall {RECALL}, {told}"
            figures.append(beside(query, at["median_ms"], "ms", (peer, of_peer["median_ms"])))
            figures.append(beside(batch, at["batch_per_s"], "queries/s", (peer, of_peer["batch_per_s"])))
        figures.append(Figure(f"opening again, {told}", 1e3 * ours["reader"]["open_s"], "ms"))
    return figures


def _large(details: Details) -> list[Figure]:
    return [figure for size in details["sizes"] for figure in _of_a_size(size)]


def _of_a_size(size: Details) -> list[Figure]:
    figures = []
    for name, found in size["engines"].items():
        told = f"{name}, {size['items']:,}"
        figures.append(Figure(f"build, {told}", found["build"]["seconds"]["wall"], "s"))
        figures += [
            Figure(f"one query at recall {recall}, warm, {told}", point["median_ms"], "ms")
            for recall, point in found["warm"].items()
        ]
        figures.append(Figure(f"one query, cold, {told}", found["cold"]["median_ms"], "ms"))
    return figures


def _postgres(details: Details) -> list[Figure]:
    figures, rows = [], f"{details['rows']:,}"
    folder = details["results"].get("folder, Annoy")
    for name, found in details["results"].items():
        if found is folder or not folder:
            continue
        build, query = f"build, {name}, {rows}", f"one query, {name}, {rows}"
        figures.append(beside(build, found["build_s"], "s", ("folder, Annoy", folder["build_s"])))
        peer = ("folder, Annoy", folder["search"]["median_ms"])
        figures.append(beside(query, found["search"]["median_ms"], "ms", peer))
    return figures


def _client(details: Details) -> list[Figure]:
    figures = []
    if start := details.get("start"):
        ours, stubs = start["ours"], start["official"]
        figures.append(beside("process start to first latents", ours["s"], "s", ("official stubs", stubs["s"])))
        figures.append(beside("memory then", ours["mb"], "MB", ("official stubs", stubs["mb"])))
    if single := details.get("single"):
        for more in ("", ", 32 at once"):
            ours, stubs = single[f"ours{more}"], single[f"official{more}"]
            told = f"CPU of the client, one image a call{more}"
            figures.append(beside(told, ours["cpu_us"], "µs", ("official stubs", stubs["cpu_us"])))
    if parsing := details.get("parsing"):
        found = parsing["float_val"]
        figures.append(beside("reading 400 latents", found["ours_us"], "µs", ("official stubs", found["official_us"])))
    for model, ways in details.get("bulk", {}).items():
        told, peer = f"{ways['images']:,} images over loopback, {model}", ("in process", ways["in process"]["wall_s"])
        figures.append(beside(told, ways["served"]["wall_s"], "s", peer))
    if photo := details.get("photograph"):
        peer = ("bare Predict", photo["bare_ms"])
        figures.append(beside("photograph to ten neighbours", photo["whole_ms"], "ms", peer))
    if callers := details.get("callers"):
        peer = ("without batching", callers["without batching"]["per_s"])
        figures.append(beside("32 callers, with batching", callers["with batching"]["per_s"], "answers/s", peer))
    return figures


def _web(details: Details) -> list[Figure]:
    figures = []
    for part, told in (("single", "one PNG by POST"), ("photograph", "12 megapixels by POST")):
        if found := details.get(part):
            figures.append(beside(told, found["http_ms"], "ms", ("in process", found["python_ms"])))
    if callers := details.get("callers"):
        alone = ("AsyncImageSearch", callers["AsyncImageSearch"]["per_s"])
        services = {way: found["per_s"] for way, found in callers.items() if way.startswith("service")}
        figures += [beside(f"32 callers, {way}", per_s, "answers/s", alone) for way, per_s in services.items()]
    if page := details.get("page"):
        figures.append(Figure("page, scripts and styles", page["kb"], "KB"))
    return figures


def _images(details: Details) -> list[Figure]:
    figures = []
    for file in details["files"]:
        width, height = file["size"]
        ways, told = file["ways"], f"{file['kind']}, {width} x {height}, through the graph"
        figures.append(beside(told, ways["graph"]["ms"], "ms", ("Pillow", ways["pillow"]["ms"])))
    return figures


def _latents(details: Details) -> list[Figure]:
    figures = []
    sets = {"Fashion-MNIST": details.get("retrieval", []), **details.get("photographs", {})}
    for name, rows in sets.items():
        by_name = {row["name"]: row for row in rows}
        for ours, peer in (("default", "gradients, PCA"), ("default, backbone", "backbone, pooled, PCA")):
            if ours in by_name and peer in by_name:
                figures += [
                    beside(f"{rank}, {name}, {ours}", by_name[ours][rank], "", (peer, by_name[peer][rank]))
                    for rank in ("precision@1", "precision@10")
                ]
                figures.append(Figure(f"training, {name}, {ours}", by_name[ours]["seconds"], "s"))
    if reverse := details.get("reverse"):
        found = {name: fmean(shares.values()) for name, shares in reverse["found_first"].items()}
        peer = ("pixels", found["pixels"])
        figures += [
            beside(f"copies found first, Fashion-MNIST, {name}", share, "", peer)
            for name, share in found.items()
            if name.startswith("default")
        ]
    return figures + _copies(details.get("copies", {"rows": []}))


def _copies(details: Details) -> list[Figure]:
    found = {row["name"]: fmean(row["found_first"].values()) for row in details["rows"]}
    peers = [name for name in found if name.startswith("pixels")]
    ours = [name for name in found if not name.startswith(("pixels", "PDQ", "pHash"))]
    return [
        beside(f"copies found first, photographs, {name}", found[name], "", (peers[0], found[peers[0]]))
        for name in (ours if peers else [])
    ]


def _train(details: Details) -> list[Figure]:
    figures = []
    if reach := details.get("reach"):
        seconds = {name: fmean(run["fit_s"] or run["spent_s"] for run in runs) for name, runs in reach.items()}
        peer = ("tutorial", seconds["tutorial"])
        figures.append(beside("fit until the pixels' loss is the tutorial's", seconds["default"], "s", peer))
    for name, found in details.get("speed", {}).items():
        per_s = 1e3 * found["batch_size"] / found["bare_fit_ms"]
        floor = ("the arithmetic alone", found["multiply_adds_per_s"] / found["multiply_adds"])
        figures.append(beside(f"fit, {name}", per_s, "images/s", floor))
    return figures


def _trust(details: Details) -> list[Figure]:
    told = ("AUROC by distance", "marked by both together")
    return [Figure(f"{row['name']}, {name}", row[name]) for row in details["rows"] for name in told if name in row]


BENCHMARKS: dict[str, Callable[[Details], list[Figure]]] = {
    "index": _index,
    "large": _large,
    "postgres": _postgres,
    "client": _client,
    "web": _web,
    "images": _images,
    "latents": _latents,
    "copies": _copies,
    "train": _train,
    "trust": _trust,
}
