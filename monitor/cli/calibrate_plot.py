"""A cascade's cost and accuracy over the share of calls, as characters and as SVG."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from monitor.benchmarks.policy_curve import Point

_WIDTH, _HEIGHT = 61, 12
_EXPECTED, _FOUND, _CHOSEN = "·", "o", "●"

Panel = tuple[str, list[tuple[float, float]], list[tuple[float, float]], tuple[float, float]]
"""A title, the expected curve, the one found, and the point chosen."""


def panels(points: Sequence[Point], chosen: Point) -> list[Panel]:
    """The two panels of the plot: share of calls, 0 to 1, against cost and against balanced accuracy."""
    return [
        (
            "cost a trace, calls included",
            [(one.share, one.predicted_cost) for one in points],
            [(one.share, one.cost.value) for one in points],
            (chosen.share, chosen.cost.value),
        ),
        (
            "balanced accuracy",
            [(one.share, one.predicted_balanced_accuracy) for one in points],
            [(one.share, one.balanced_accuracy.value) for one in points],
            (chosen.share, chosen.balanced_accuracy.value),
        ),
    ]


def as_text(panel: Panel) -> list[str]:
    """One panel as lines of characters."""
    title, expected, found, chosen = panel
    low, high = _range(panel)
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for mark, places in ((_EXPECTED, _filled(expected)), (_FOUND, found), (_CHOSEN, [chosen])):
        for share, value in places:
            row = round((high - value) / (high - low) * (_HEIGHT - 1))
            grid[row][round(share * (_WIDTH - 1))] = mark
    labels = {0: f"{high:.3f}", _HEIGHT - 1: f"{low:.3f}"}
    lines = [f"{labels.get(number, ''):>8} │{''.join(row).rstrip()}" for number, row in enumerate(grid)]
    axis = f"{'':>8} └{'─' * _WIDTH}"
    below = f"{'':>10}{'0 %':<{_WIDTH // 2 - 1}}{'50 %':<{_WIDTH // 2 - 3}}100 % of calls"
    return [f"{title}: {_EXPECTED} expected, {_FOUND} found, {_CHOSEN} chosen", *lines, axis, below]


def _filled(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The curve at every column, straight between its points."""
    places = []
    for (left, value), (right, next_value) in pairwise(curve):
        steps = max(1, round((right - left) * (_WIDTH - 1)))
        for step in range(steps + 1):
            part = step / steps
            places.append((left + part * (right - left), value + part * (next_value - value)))
    return places


def _range(panel: Panel) -> tuple[float, float]:
    values = [value for _, value in (*panel[1], *panel[2], panel[3])]
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


_PANEL_WIDTH, _PANEL_HEIGHT, _MARGIN = 420, 260, 56
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.axis{stroke:#999}.expected{stroke:#999;stroke-dasharray:4 3;fill:none}"
    ".found{stroke:#1664a8;stroke-width:2;fill:none}.band{fill:#1664a8;opacity:.15}.chosen{fill:#c2410c}"
)


def as_svg(title: str, points: Sequence[Point], chosen: Point) -> str:
    """Both panels side by side, with bands of 95 % around what was found."""
    bands = [[one.cost for one in points], [one.balanced_accuracy for one in points]]
    drawn = []
    for number, panel in enumerate(panels(points, chosen)):
        band = [(point.share, bound.low, bound.high) for point, bound in zip(points, bands[number], strict=True)]
        drawn.append(_svg_panel(panel, band, number * (_PANEL_WIDTH + _MARGIN) + _MARGIN))
    width, height = 2 * (_PANEL_WIDTH + _MARGIN) + _MARGIN, _PANEL_HEIGHT + 2 * _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<title>{escape(title)}</title><style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{_MARGIN}" y="20">{escape(title)}</text>{"".join(drawn)}</svg>\n'
    )


def _svg_panel(panel: Panel, band: Sequence[tuple[float, float, float]], left: int) -> str:
    title, expected, found, chosen = panel
    bounds = [bound for _, low, high in band for bound in (low, high)]
    low, high = min(_range(panel)[0], *bounds), max(_range(panel)[1], *bounds)

    def place(share: float, value: float) -> str:
        down = _MARGIN + (high - value) / (high - low) * _PANEL_HEIGHT
        return f"{left + share * _PANEL_WIDTH:.1f},{down:.1f}"

    upper = [place(share, top) for share, _, top in band]
    lower = [place(share, bottom) for share, bottom, _ in reversed(band)]
    at, down = place(*chosen).split(",")
    bottom, right = _MARGIN + _PANEL_HEIGHT, left + _PANEL_WIDTH
    return (
        f'<polyline class="axis" fill="none" points="{left},{_MARGIN} {left},{bottom} {right},{bottom}"/>'
        f'<text x="{left}" y="{_MARGIN - 10}">{escape(title)}</text>'
        f'<text x="{left - 6}" y="{_MARGIN + 4}" text-anchor="end">{high:.3f}</text>'
        f'<text x="{left - 6}" y="{bottom}" text-anchor="end">{low:.3f}</text>'
        f'<text x="{left}" y="{bottom + 18}">0 %</text>'
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end">100 % of calls</text>'
        f'<polygon class="band" points="{" ".join(upper + lower)}"/>'
        f'<polyline class="expected" points="{" ".join(place(*one) for one in expected)}"/>'
        f'<polyline class="found" points="{" ".join(place(*one) for one in found)}"/>'
        f'<circle class="chosen" cx="{at}" cy="{down}" r="5"><title>chosen</title></circle>'
    )
