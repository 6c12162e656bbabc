"""Results for people: a table on the terminal and a chart in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from services.stack.bench.statistics import Figure

WIDTH, ROW, LEFT, RIGHT, TOP = 860, 46, 170, 190, 56
OURS, LIMITS = "#2f6f9f", "#c9d6df"


def write_json(figures: Sequence[Figure], path: Path) -> None:
    """The list of figures."""
    path.write_text(json.dumps([figure.to_json() for figure in figures], indent=1) + "\n")


def rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """The table, without its head."""
    return [_row(figure) for figure in figures]


HEAD = ("FIGURE", "VALUE", "", "LIMIT", "", "RATIO", "P50 MS", "P95 MS", "P99 MS", "CPU US/CALL")


def _row(figure: Figure) -> tuple[str, ...]:
    told = figure.to_json()
    limit = f"{figure.limit:,.0f}" if figure.limit is not None else ""
    if figure.target is not None:
        limit = f"{figure.target:,.0f}" if figure.target >= 10 else f"{figure.target:.2f}"
    return (
        figure.name,
        _shown(figure.value),
        figure.unit,
        limit,
        figure.limit_name if figure.target is None else "at most",
        f"{figure.ratio:.2f}" if figure.ratio is not None else "",
        *(str(told.get(name, "")) for name in ("p50_ms", "p95_ms", "p99_ms", "cpu_us")),
    )


def _shown(value: float) -> str:
    """Three digits and more."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def process_rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Memory and idle CPU by process, where a figure is made of them."""
    return [
        (figure.name, one.name, f"{one.pss_bytes / 2**20:.1f}", f"{one.cpu_seconds:.2f}")
        for figure in figures
        if figure.target is not None and figure.unit == "MiB"
        for one in sorted(figure.processes, key=lambda one: -one.pss_bytes)
    ]


def chart(figures: Sequence[Figure]) -> str:
    """Bars as SVG: each throughput in front of its limit."""
    shown = [figure for figure in figures if figure.unit == "calls/s"]
    most = max((max(figure.value, figure.limit or 0.0) for figure in shown), default=1.0)
    height = TOP + ROW * len(shown) + 16
    size = f'width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f'<rect {size} fill="white"/>',
        '<text x="16" y="28" font-size="16">Calls per second, each in front of its limit</text>',
    ]
    for at, figure in enumerate(shown):
        parts += _bars(figure, TOP + ROW * at, (WIDTH - LEFT - RIGHT) / most)
    return "\n".join((*parts, "</svg>")) + "\n"


def _bars(figure: Figure, top: int, scale: float) -> list[str]:
    told = f"{figure.value:,.0f}"
    if figure.ratio is not None:
        told += f" = {figure.ratio:.2f} of {figure.limit_name}"
    found = [f'<text x="{LEFT - 10}" y="{top + 21}" text-anchor="end">{escape(figure.name)}</text>']
    if figure.limit is not None:
        found.append(_bar(top, figure.limit * scale, 32, LIMITS))
    found.append(_bar(top + 7, figure.value * scale, 18, OURS if figure.limit_name else LIMITS))
    end = LEFT + max(figure.value, figure.limit or 0.0) * scale
    found.append(f'<text x="{end + 8:.0f}" y="{top + 21}">{escape(told)}</text>')
    return found


def _bar(top: int, width: float, height: int, color: str) -> str:
    return f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{height}" fill="{color}"/>'
