"""The drift benchmark's figures as tables and as a plot."""

import math
from collections.abc import Sequence
from html import escape

from monitor.benchmarks.drift_bench import Delay, DriftFigures, Quiet
from monitor.benchmarks.drift_streams import CONTESTANTS, ORACLE, OURS

Table = tuple[str, list[str], list[list[str]]]
"""A title, headings (the first two are words) and rows."""


def tables(figures: DriftFigures) -> list[Table]:
    """Stationary streams, jumps, and the slow rise."""
    plan = figures.plan
    return [
        (
            f"Streams that do not change, {plan.runs} runs; run length asked for {plan.average_run_length:,.0f}",
            [
                "detector",
                "learned from",
                "rate",
                f"alarm within {plan.average_run_length / 10:,.0f}",
                f"within {plan.stationary:,}",
                "average run length",
            ],
            [_quiet_row(one) for one in figures.quiet],
        ),
        (
            f"Jumps after {plan.quiet} quiet verdicts: delay in verdicts",
            ["detector", "learned from", "rate", "to", "mean", "p90", "not seen", "alarm before", "of the oracle's"],
            [_delay_row(one, figures.delays) for one in figures.delays if not one.ramp],
        ),
        (
            f"A doubling spread over {plan.ramp:,} verdicts: delay from its beginning",
            ["detector", "learned from", "rate", "to", "mean", "p90", "not seen", "alarm before", "rate by then"],
            [_slow_row(one) for one in figures.delays if one.ramp],
        ),
    ]


def as_markdown(figures: DriftFigures) -> str:
    """All tables."""
    parts = []
    for title, headings, rows in tables(figures):
        words = 2
        rule = ["---"] * words + ["---:"] * (len(headings) - words)
        parts += [f"**{title}**", "", *(f"| {' | '.join(line)} |" for line in (headings, rule, *rows)), ""]
    return "\n".join(parts)


def _quiet_row(one: Quiet) -> list[str]:
    length = "-" if one.average_run_length is None else f"{one.average_run_length:,.0f}"
    return [one.detector, _learned(one), f"{one.baseline:g}", f"{one.early:.1%}", f"{one.alarmed:.1%}", length]


def _delay_row(one: Delay, all_: Sequence[Delay]) -> list[str]:
    best = next(
        (each for each in all_ if each.detector == ORACLE and (each.baseline, each.rise) == (one.baseline, one.rise)),
        None,
    )
    if best is None or one is best or one.mean is None or best.mean is None:
        return [*_delay_cells(one), "-"]
    return [*_delay_cells(one), f"{one.mean / best.mean:.2f}"]


def _slow_row(one: Delay) -> list[str]:
    if one.mean is None:
        return [*_delay_cells(one), "-"]
    moved = min(1.0, one.mean / one.ramp)
    return [*_delay_cells(one), f"{one.baseline * (1 + (one.rise - 1) * moved):.3f}"]


def _delay_cells(one: Delay) -> list[str]:
    return [
        one.detector,
        _learned(one),
        f"{one.baseline:g}",
        f"{one.baseline * one.rise:g}",
        *("-" if value is None else f"{value:,.0f}" for value in (one.mean, one.p90)),
        f"{one.missed:.0%}",
        f"{one.early:.1%}",
    ]


def _learned(one: Quiet | Delay) -> str:
    return f"{one.learned_from:,}" if one.detector == OURS else "-"


_PANEL_WIDTH, _PANEL_HEIGHT, _MARGIN = 300, 260, 60
_COLOURS = ("#1664a8", "#333333", "#c2410c", "#15803d", "#9333ea", "#a16207")
_FLOOR = 10.0


def as_svg(figures: DriftFigures) -> str:
    """Mean delay over the size of the jump, a panel for each baseline, logarithmic both ways."""
    plan = figures.plan
    shown = [one for one in figures.delays if not one.ramp and one.learned_from == plan.usual_length]
    width = len(plan.baselines) * (_PANEL_WIDTH + _MARGIN) + _MARGIN
    height = _PANEL_HEIGHT + 2 * _MARGIN + 20
    drawn = [
        _panel([one for one in shown if one.baseline == baseline], baseline, plan.longest, place)
        for place, baseline in enumerate(plan.baselines)
    ]
    key = "".join(
        f'<text x="{_MARGIN + 110 * place}" y="{height - 12}" fill="{colour}">{escape(name)}</text>'
        for place, (name, colour) in enumerate(zip(CONTESTANTS, _COLOURS, strict=True))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        "<style>text{font:12px sans-serif}.axis{stroke:#999;fill:none}.line{fill:none;stroke-width:2}</style>"
        '<rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{_MARGIN}" y="20">Mean delay in verdicts after a jump; average run length '
        f"{plan.average_run_length:,.0f}, baseline from {plan.usual_length:,} verdicts</text>"
        f"{''.join(drawn)}{key}</svg>\n"
    )


def _panel(delays: Sequence[Delay], baseline: float, longest: float, number: int) -> str:
    left = number * (_PANEL_WIDTH + _MARGIN) + _MARGIN
    rises = sorted({one.rise for one in delays})
    first, last = math.log(rises[0]), math.log(rises[-1])

    def place(rise: float, mean: float) -> str:
        across = (math.log(rise) - first) / (last - first or 1.0)
        up = math.log(max(_FLOOR, mean) / _FLOOR) / math.log(longest / _FLOOR)
        return f"{left + across * _PANEL_WIDTH:.1f},{_MARGIN + (1 - up) * _PANEL_HEIGHT:.1f}"

    bottom, right = _MARGIN + _PANEL_HEIGHT, left + _PANEL_WIDTH
    lines = []
    for name, colour in zip(CONTESTANTS, _COLOURS, strict=True):
        places = [place(one.rise, one.mean) for one in delays if one.detector == name and one.mean is not None]
        lines.append(f'<polyline class="line" stroke="{colour}" points="{" ".join(places)}"/>')
    ticks = "".join(
        f'<text x="{place(rise, _FLOOR).split(",")[0]}" y="{bottom + 18}" text-anchor="middle">x {rise:g}</text>'
        for rise in rises
    )
    heights = {
        mark: float(place(rises[0], mark).split(",")[1]) + 4 for mark in (10, 100, 1000, 10_000) if mark <= longest
    }
    marks = "".join(
        f'<text x="{left - 6}" y="{height:.1f}" text-anchor="end">{mark:g}</text>' for mark, height in heights.items()
    )
    return (
        f'<polyline class="axis" points="{left},{_MARGIN} {left},{bottom} {right},{bottom}"/>'
        f'<text x="{left}" y="{_MARGIN - 10}">from {baseline:g}</text>{ticks}{marks}{"".join(lines)}'
    )
