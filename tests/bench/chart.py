"""The results as a chart (SVG, written by hand): for each row, how fast each column is beside what vprun is compared
with, on a logarithmic scale."""
import math
from html import escape

from systems import COLUMNS

COLORS = {"native": "#c9ced6", "zram": "#8fa6c4", "swap file": "#c4a98f", "zswap": "#a9a3c9", "vprun": "#d6513f"}
LABELS, PLOT, BAR, GAP, TOP = 210, 620, 9, 10, 54  # pixels
LOW, HIGH = 0.1, 100  # the scale's ends


def x_of(ratio):
    part = math.log(min(max(ratio, LOW), HIGH) / LOW) / math.log(HIGH / LOW)
    return LABELS + PLOT * part


def text(x, y, content, more=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" {more}>{escape(content)}</text>'


def line(x, top, bottom, style):
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" {style}/>'


def bar(ratio, y, color):
    start, end = sorted((x_of(1), x_of(ratio)))
    return f'<rect x="{start:.1f}" y="{y}" width="{max(1, end - start):.1f}" height="{BAR - 1}" fill="{color}"/>'


def scale(bottom):
    for ratio in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100):
        style = 'stroke="#555"' if ratio == 1 else 'stroke="#e4e4e4"'
        yield line(x_of(ratio), TOP - 8, bottom, style)
        yield text(x_of(ratio), TOP - 12, f"{ratio:g}x", 'text-anchor="middle" fill="#555"')


def legend():
    x = LABELS
    for column in COLUMNS:
        yield f'<rect x="{x}" y="12" width="10" height="10" fill="{COLORS[column]}"/>'
        yield text(x + 14, 21, column)
        x += 90
    yield text(x, 21, "| target")


def row_of_bars(results, row, y):
    ratios = {column: results.ratio(row.name, column, row.against) for column in COLUMNS}
    bars = [(column, ratio) for column, ratio in ratios.items() if ratio]
    height = BAR * len(bars)
    yield text(LABELS - 8, y + height / 2 + 4, row.name, 'text-anchor="end"')
    for i, (column, ratio) in enumerate(bars):
        yield bar(ratio, y + BAR * i, COLORS[column])
        if column == "vprun":
            yield text(max(x_of(ratio), x_of(1)) + 4, y + BAR * i + BAR - 1, f"{ratio:.2f}x {row.against}")
    if row.target:
        yield line(x_of(row.target), y - 2, y + height + 1, 'stroke="#000" stroke-width="2"')


def draw(results):
    parts, y = [], TOP
    for row in results.rows.values():
        if not results.ratio(row.name, "vprun", row.against):
            continue
        bars = list(row_of_bars(results, row, y))
        parts += bars
        y += BAR * sum(part.startswith("<rect") for part in bars) + GAP
    width = LABELS + PLOT + 60
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 10}" viewBox="0 0 {width} {y + 10}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{y + 10}" fill="#fff"/>',
        *legend(), *scale(y), *parts, "</svg>", ""])
