"""Pictures: samples of a source, reconstructions of a run, neighbours of queries and why they are similar, drift."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.data import ArraySource, Source
from ae_search.data.sources import class_counts, read_file
from ae_search.drift import Drift, Logged
from ae_search.drift.comparing import figures
from ae_search.errors import ConfigurationError, ImageError
from ae_search.explaining import Explanation
from ae_search.extras import needs
from ae_search.files import trouble_in_words, write_atomically
from ae_search.image_file import small_picture, stored_thumbnail
from ae_search.printable import printable
from ae_search.trust import Usual

CELL_INCHES = 1.1
CELL_PX = 256
CAPTION_POINTS = 7
# Share of a cell's width; the rest keeps two captions apart.
CAPTION_SHARE = 0.92
# No caption of so many letters fits.
_MOST_LETTERS = 200
# Labels and names are no formulas, whatever the user's matplotlibrc says.
_PLAIN = {"parse_math": False, "usetex": False}


@dataclass(frozen=True)
class Picture:
    """One cell of a grid.

    Attributes:
        pixels: `[h, w]` or `[h, w, c]` in [0, 1] or uint8; None where there is no picture.
        title: Above it, shortened to the cell's width.
        figure: Below the title, such as a similarity; never shortened.
    """

    pixels: npt.NDArray[Any] | None
    title: str = ""
    figure: str = ""


def plot_samples(source: Source, path: Path, *, columns: int = 10, rows: int = 4) -> None:
    """Write labelled samples, spread evenly over the source, with the count of each class.

    Raises:
        ConfigurationError: matplotlib is missing, or `path` cannot be written.
    """
    chosen = np.unique(np.linspace(0, len(source) - 1, rows * columns).astype(int))
    by_label = sorted(chosen, key=lambda i: (source.labels[i] or "", i))
    pictures = [Picture(_pixels(source, int(i)), source.labels[int(i)] or "") for i in by_label]
    counts = class_counts(source)
    told = ", ".join(f"{label} {count:,}" for label, count in list(counts.items())[:20])
    more = f", and {len(counts) - 20} more classes" if len(counts) > 20 else ""
    title = f"{source.name}: {len(source):,} images" + (f" ({told}{more})" if counts else "")
    _write_grid([pictures[row : row + columns] for row in range(0, len(pictures), columns)], path, title)


def plot_reconstructions(originals: npt.NDArray[Any], reconstructions: npt.NDArray[Any], path: Path) -> None:
    """Write originals above their reconstructions.

    Args:
        originals: `[n, h, w, c]` in [0, 1].
        reconstructions: The same shape, values in [0, 1].
        path: The PNG file.

    Raises:
        ConfigurationError: matplotlib is missing, or `path` cannot be written.
    """
    above = [Picture(image, "original" if at == 0 else "") for at, image in enumerate(originals)]
    below = [Picture(image, "reconstruction" if at == 0 else "") for at, image in enumerate(reconstructions)]
    _write_grid([above, below], path, "")


def plot_neighbours(queries: Sequence[Picture], neighbours: Sequence[Sequence[Picture]], path: Path) -> None:
    """Write each query beside its neighbours, one row a query.

    Raises:
        ConfigurationError: matplotlib is missing, no neighbour has a picture, or `path` cannot be written.
    """
    if not any(picture.pixels is not None for row in neighbours for picture in row):
        raise ConfigurationError(
            f"There is nothing to draw in {path}: "
            + ("the index holds no thumbnail of what was found." if any(neighbours) else "nothing was found.")
        )
    _write_grid([[query, *row] for query, row in zip(queries, neighbours, strict=True)], path, "query, then neighbours")


def plot_explanations(explained: Sequence[tuple[Picture, Explanation, Picture]], path: Path) -> None:
    """Write why queries and items are similar, three rows for each pair.

    The first row has the query, its reconstruction, where the two reconstructions agree (blue) and differ (red), the
    item's reconstruction and the item. The second is the walk from the one to the other; the third has the parts of the
    latents that contribute most to the similarity, each where it shows.

    Args:
        explained: Query, explanation and item.
        path: The PNG file.

    Raises:
        ConfigurationError: matplotlib is missing, or `path` cannot be written.
    """
    rows: list[list[Picture]] = []
    for query, why, item in explained:
        between = Picture(_agreement_colours(why), "agree / differ", f"{why.similarity:.4f}")
        first, last = Picture(why.query, "reconstruction"), Picture(why.item, "reconstruction")
        walk = [Picture(image, "from here" if at == 0 else "") for at, image in enumerate(why.walk[:-1])]
        parts = [Picture(part.where, f"float {part.dimension}", f"{part.contribution:+.4f}") for part in why.parts]
        rows += [[query, first, between, last, item], [*walk, Picture(why.walk[-1], "to there")], parts]
    _write_grid([row for row in rows if row], path, "why a query and its neighbour are similar")


def plot_drift(logged: Logged, usual: Usual, drift: Drift, path: Path) -> None:
    """Write each figure of queries beside that of held-out items, and how they moved over time.

    Args:
        logged: The queries.
        usual: The held-out items.
        drift: What comparing them has found.
        path: The PNG file.

    Raises:
        ConfigurationError: matplotlib is missing, or `path` cannot be written.
    """
    with needs("Pictures need matplotlib", "plots"):
        from matplotlib.figure import Figure
    canvas = Figure(figsize=(4.2 * (len(drift.measures) + 1), 3.2), layout="constrained")
    *axes, last = canvas.subplots(1, len(drift.measures) + 1)
    found = figures(logged, usual)
    for axis, measure in zip(axes, drift.measures, strict=True):
        seen, kept = found[measure.name]
        edges = np.histogram_bin_edges(np.concatenate([seen, kept]), bins=40)
        for values, label in ((kept, "held-out items"), (seen, "queries")):
            axis.hist(values, bins=edges, density=True, alpha=0.5, label=label)
        axis.set(yticks=[], title=f"{measure.name}: {measure.verdict}, PSI {measure.psi:.2f}")
        axis.legend(fontsize=CAPTION_POINTS)
    numbers = range(1, len(drift.windows) + 1)
    last.plot(numbers, [100 * window.distrusted for window in drift.windows], marker="o")
    last.set(xlabel="parts of the log, by time", ylabel="%", ylim=(-2, 102), title="queries unlike the training data")
    _save(canvas, path)


def _agreement_colours(why: Explanation) -> npt.NDArray[Any]:
    """Return the heat map over both reconstructions, `[h, w, 3]` in [0, 1]: blue where they agree, red where not."""
    with needs("Pictures need matplotlib", "plots"):
        from matplotlib import colormaps
    colours = colormaps["RdBu"]((why.agreement + 1.0) / 2.0)[..., :3]
    grey = ((why.query + why.item) / 2.0).mean(axis=-1, keepdims=True)
    mixed: npt.NDArray[Any] = 0.7 * colours + 0.3 * grey
    return mixed


def picture_of(data: bytes | None, title: str, figure: str = "") -> Picture:
    """Return a thumbnail from an index as a cell, an empty one where there is none that can be shown."""
    small = stored_thumbnail(data, CELL_PX)
    return Picture(None if small is None else np.asarray(small), title, figure)


def picture_of_file(data: bytes, title: str) -> Picture:
    """Return an image file's bytes as a cell, an empty one where they cannot be decoded."""
    try:
        return Picture(np.asarray(small_picture(data, title, CELL_PX)), title)
    except ImageError:
        return Picture(None, title)


def _pixels(source: Source, position: int) -> npt.NDArray[Any] | None:
    if isinstance(source, ArraySource):
        pixels: npt.NDArray[Any] = source.images[position]
        return pixels
    try:
        return picture_of_file(read_file(source, position), "").pixels
    except ImageError:
        return None  # damaged images are reported by who reads the source in full


def _write_grid(rows: Sequence[Sequence[Picture]], path: Path, title: str) -> None:
    with needs("Pictures need matplotlib", "plots"):
        from matplotlib.figure import Figure  # without pyplot: no display, no global state
    columns = max(len(row) for row in rows)
    lines = 2 if any(picture.figure for row in rows for picture in row) else 1
    height = (CELL_INCHES + 0.12 + 0.13 * lines) * len(rows) + 0.5
    figure = Figure(figsize=(CELL_INCHES * columns, height), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    widths = _Widths(figure)
    for line, row in zip(axes, rows, strict=True):
        for axis in line:
            axis.axis("off")
            axis.set(xticks=[], yticks=[])  # unseen, they would be laid out all the same
        for axis, picture in zip(line, row, strict=False):
            _draw_cell(axis, picture, widths)
    if title:
        figure.suptitle(printable(title), fontsize=9, wrap=True, **_PLAIN)
    _save(figure, path)


def _draw_cell(axis: Any, picture: Picture, widths: "_Widths") -> None:
    caption = [line for line in (widths.shortened(picture.title), printable(picture.figure)) if line]
    axis.set_title("\n".join(caption), fontsize=CAPTION_POINTS, **_PLAIN)
    if picture.pixels is not None:
        white = 255 if picture.pixels.dtype == np.uint8 else 1
        axis.imshow(_plane(picture.pixels), cmap="gray", vmin=0, vmax=white)
    elif caption:
        axis.text(0.5, 0.5, "no picture", fontsize=CAPTION_POINTS, color="grey", ha="center", va="center", **_PLAIN)


def _save(figure: Any, path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ConfigurationError(f"Cannot write the picture {path}: {reason}.")
    # Named, since for a name without an ending matplotlib would write to another one.
    form = path.suffix.removeprefix(".") or "png"
    try:
        write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format=form))
    except (OSError, ValueError) as error:  # ValueError: a suffix that matplotlib does not know
        raise ConfigurationError(f"Cannot write the picture {path}: {trouble_in_words(error)}.") from error


class _Widths:
    """Measures captions, so that they stay within their cells whatever letters they have."""

    def __init__(self, figure: Any) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.font_manager import FontProperties

        canvas: Any = FigureCanvasAgg(figure)
        self._renderer = canvas.get_renderer()
        self._font = FontProperties(size=CAPTION_POINTS)
        self._most = CAPTION_SHARE * CELL_INCHES * figure.dpi

    def shortened(self, title: str) -> str:
        """Return a title without its beginning, as much as it takes to fit: names differ by their ends."""
        title = printable(title)[-_MOST_LETTERS:] if len(title) > _MOST_LETTERS else printable(title)
        shorter, letters = title, len(title)
        while letters > 1 and self._width(shorter) > self._most:
            letters -= max(1, letters // 8)
            shorter = "…" + title[-letters:]
        return shorter

    def _width(self, text: str) -> float:
        width, _, _ = self._renderer.get_text_width_height_descent(text, self._font, False)
        return float(width)


def _plane(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return pixels as matplotlib takes them, one channel without its axis."""
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
