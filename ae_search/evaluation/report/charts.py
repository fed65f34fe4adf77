"""Charts as inline SVG: bars beside baselines, and recall against time."""

import math
from collections.abc import Sequence

from ae_search.evaluation.report.markup import Attributes, Markup, decimal, element, shortened
from ae_search.evaluation.results import IndexRecall, RecallAtEffort

_BAR_WIDTH, _BAR_STEP, _BAR_HEIGHT = 320, 40, 12
_CURVE_WIDTH, _CURVE_HEIGHT = 640, 380
_TUNED_WIDTH = 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 20, 54


def svg(width: float, height: float, told: str, *content: object, cls: str = "") -> Markup:
    """Return a picture that grows with its place; `told` is what one reads who does not see it."""
    attributes = {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": told}
    return element("svg", *content, cls=cls, attributes=attributes)


def text(x: float, y: float, content: object, cls: str, *, anchor: str | None = None) -> Markup:
    """Return a text of an SVG, its baseline at `y`; `anchor` is "middle" or "end"."""
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    return element("text", content, cls=cls, attributes=attributes)


def bars(title: str, values: Sequence[tuple[str, float]]) -> Markup:
    """Return one measure of several representations, ours first, as bars from 0 to 1."""
    height = _BAR_STEP * len(values) + 4
    rows = []
    for at, (name, value) in enumerate(values):
        top = at * _BAR_STEP
        share = min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
        cls = "ours" if at == 0 else "baseline"
        rows += [
            text(0, top + 15, shortened(name, 34), f"name {cls}"),
            text(_BAR_WIDTH, top + 15, decimal(value), f"value {cls}", anchor="end"),
            _bar(top + 21, _BAR_WIDTH, "track"),
            _bar(top + 21, share * _BAR_WIDTH, f"bar {cls}"),
        ]
    told = f"{title}: " + ", ".join(f"{shortened(name, 34)} {decimal(value)}" for name, value in values)
    caption = element("figcaption", title)
    return element("figure", caption, svg(_BAR_WIDTH, height, told, *rows, cls="bars"))


def _bar(y: float, width: float, cls: str) -> Markup:
    return element(
        "rect", cls=cls, attributes={"x": 0, "y": y, "width": f"{width:.1f}", "height": _BAR_HEIGHT, "rx": 2}
    )


def recall_curve(recall: IndexRecall) -> Markup:
    """Return recall against median time with the tuned point marked."""
    points = [one for one in recall.curve if math.isfinite(one.recall) and math.isfinite(one.latency_ms)]
    slowest = max((one.latency_ms for one in points), default=0.0) or 1.0
    lowest = min((one.recall for one in points), default=0.0)
    x_ticks = nice_ticks(0.0, slowest)
    y_ticks = nice_ticks(lowest - 0.02 if lowest < 1 else 0.9, 1.0)
    x_from, x_to, y_from, y_to = x_ticks[0], x_ticks[-1], max(0.0, y_ticks[0]), 1.0

    def place(one: RecallAtEffort) -> tuple[float, float]:
        right = (one.latency_ms - x_from) / (x_to - x_from)
        up = (one.recall - y_from) / (y_to - y_from)
        return (
            _LEFT + right * (_CURVE_WIDTH - _LEFT - _RIGHT),
            _CURVE_HEIGHT - _BOTTOM - up * (_CURVE_HEIGHT - _TOP - _BOTTOM),
        )

    spots = [(one, *place(one)) for one in points]
    line = element("polyline", cls="line", attributes={"points": " ".join(f"{x:.1f},{y:.1f}" for _, x, y in spots)})
    axes = _axes([tick for tick in y_ticks if 0 <= tick <= 1.0], x_ticks, (y_from, y_to), (x_from, x_to))
    marks = [mark for one, x, y in spots for mark in _mark(one, x, y, one.effort == recall.effort)]
    told = f"Recall@10 against median time: tuned effort {recall.effort}, recall {decimal(recall.recall_at_10)}"
    return svg(_CURVE_WIDTH, _CURVE_HEIGHT, told, *axes, line, *marks, cls="curve")


def _mark(one: RecallAtEffort, x: float, y: float, tuned: bool) -> list[Markup]:
    told = f"effort {one.effort}: recall {decimal(one.recall)}, {decimal(one.latency_ms)} ms"
    middle = {"cx": f"{x:.1f}", "cy": f"{y:.1f}"}
    dot = element("circle", element("title", told), cls="spot", attributes={**middle, "r": 5})
    if not tuned:
        return [dot]
    ring = element("circle", cls="ring", attributes={**middle, "r": 11})
    # The curve rises and flattens, so that below a point and right of it there is room.
    low = min(y + 30, _CURVE_HEIGHT - _BOTTOM - 8)
    wide = x + _TUNED_WIDTH > _CURVE_WIDTH
    place = (x, low + 10, "end") if wide else (x + 14, low, None)
    return [ring, dot, text(*place[:2], f"tuned: effort {one.effort}", "tuned", anchor=place[2])]


def _axes(
    y_ticks: Sequence[float], x_ticks: Sequence[float], y_span: tuple[float, float], x_span: tuple[float, float]
) -> list[Markup]:
    """Return grid, numbers and titles of both axes."""
    bottom, parts = _CURVE_HEIGHT - _BOTTOM, []
    for tick in y_ticks:
        y = bottom - (tick - y_span[0]) / (y_span[1] - y_span[0]) * (bottom - _TOP)
        ends: Attributes = {"x1": _LEFT, "x2": _CURVE_WIDTH - _RIGHT, "y1": f"{y:.1f}", "y2": f"{y:.1f}"}
        parts += [
            element("line", cls="grid", attributes=ends),
            text(_LEFT - 10, y + 4, f"{tick:g}", "tick", anchor="end"),
        ]
    for tick in x_ticks:
        x = _LEFT + (tick - x_span[0]) / (x_span[1] - x_span[0]) * (_CURVE_WIDTH - _LEFT - _RIGHT)
        parts.append(text(x, bottom + 20, f"{tick:g}", "tick", anchor="middle"))
    middle = (_LEFT + _CURVE_WIDTH - _RIGHT) / 2
    parts.append(text(middle, _CURVE_HEIGHT - 8, "median time of one search, ms", "axis", anchor="middle"))
    parts.append(text(_LEFT + 8, _TOP + 14, "recall@10", "axis"))
    return parts


def nice_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers that enclose a span; `high` must be above `low`."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(at * step, 10) for at in range(first, last + 1)]
