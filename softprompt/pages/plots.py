"""matplotlib figures as inline SVG that takes the page's colours, so that light and dark are one picture."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from markupsafe import Markup, escape

_COLOURS = {"ink": "#010101", "faint": "#020202", "first": "#030303", "second": "#040404", "third": "#050505"}
"""Stand-ins that no figure uses otherwise; each becomes the CSS variable `--plot-NAME`."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "softprompt",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": _COLOURS["faint"],
    "axes.labelcolor": _COLOURS["ink"],
    "text.color": _COLOURS["ink"],
    "xtick.color": _COLOURS["ink"],
    "ytick.color": _COLOURS["ink"],
    "grid.color": _COLOURS["faint"],
    "grid.linewidth": 0.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}

Estimate = tuple[str, float, float, float]
"""(name, estimate, low, high)"""
Cloud = tuple[str, Sequence[tuple[float, float]], Sequence[tuple[float, float]]]
"""(title, tokens' points, prompt's points)"""
Norms = tuple[str, Sequence[float], Sequence[float]]
"""(title, the vocabulary's quantiles, the vectors' norms)"""
RunRole = Literal["dropped", "finished", "winner"]
RUN_ROLES: tuple[RunRole, ...] = ("dropped", "finished", "winner")
"""In the order in which they are drawn: the winner lies on top."""
MOST_NUMBERED_RUNS = 10
"""Lines of a panel that carry their names; more would cover each other."""


class RunLine(NamedTuple):
    """One run's line: its name, its (step, value) points, how it ended."""

    name: str
    points: Sequence[tuple[float, float]]
    role: RunRole


class TradeOffMark(NamedTuple):
    """A point: its name, (estimate, low, high) on both axes, whether it was kept."""

    name: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]
    kept: bool


def estimates_plot(estimates: Sequence[Estimate], label: str, lines: Mapping[str, float]) -> Markup:
    """Horizontal bars with their intervals, the first one emphasised.

    Args:
        estimates: One bar each, top to bottom.
        label: Of the axis, 0 to 1.
        lines: Name -> place of a vertical line, such as a gate's threshold.
    """
    with _figure(7.2, 0.7 + 0.42 * len(estimates)) as (figure, axes):
        for place, (_, value, low, high) in enumerate(estimates):
            colour = _COLOURS["first" if place == 0 else "second"]
            axes.barh(place, value, height=0.55, color=colour, alpha=0.9 if place == 0 else 0.55)
            axes.plot([low, high], [place, place], color=_COLOURS["ink"], linewidth=1.6, solid_capstyle="butt")
            axes.annotate(f"{value:.3f}", (max(high, value), place), (6, 0), textcoords="offset points", va="center")
        for name, at in lines.items():
            axes.axvline(at, color=_COLOURS["third"], linewidth=1.4, linestyle="--")
            axes.annotate(name, (at, -0.62), (3, 0), textcoords="offset points", color=_COLOURS["third"], fontsize=9)
        axes.set_yticks(range(len(estimates)), [name for name, *_ in estimates])
        axes.set_ylim(len(estimates) - 0.5, -0.8)
        axes.set_xlim(0, 1.08)
        axes.set_xlabel(label)
        axes.grid(visible=False, axis="y")
        spoken = "; ".join(f"{name} {value:.3f}, interval {low:.3f} to {high:.3f}" for name, value, low, high in estimates)
        return _svg(figure, f"{label}: {spoken}")


def curves_plot(curves: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str, mark: float | None) -> Markup:
    """Lines over a common axis.

    Args:
        curves: Name -> (x, y) points.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        mark: Place of a vertical line, such as the best step.
    """
    with _figure(7.2, 2.7) as (figure, axes):
        for colour, (name, points) in zip(("first", "second", "third"), curves.items(), strict=False):
            axes.plot(*zip(*points, strict=True), color=_COLOURS[colour], label=name, linewidth=1.8, marker="o", markersize=3)
        if mark is not None:
            axes.axvline(mark, color=_COLOURS["third"], linewidth=1.2, linestyle="--")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if len(curves) > 1:
            axes.legend()
        spoken = "; ".join(f"{name} from {points[0][1]:.3f} to {points[-1][1]:.3f}" for name, points in curves.items())
        return _svg(figure, f"{y_label} over {x_label}: {spoken}")


def reliability_plot(bins: Sequence[tuple[float, float, int]]) -> Markup:
    """How often answers of a confidence are right.

    Args:
        bins: (mean confidence, accuracy, rows) of each bin that has rows.
    """
    with _figure(7.2, 3.4) as (figure, axes):
        confidence, accuracy, rows = zip(*bins, strict=True)
        most = max(rows)
        axes.plot([0, 1], [0, 1], color=_COLOURS["faint"], linewidth=1.4, linestyle="--")
        axes.plot(confidence, accuracy, color=_COLOURS["first"], linewidth=1.2, alpha=0.6)
        axes.scatter(confidence, accuracy, s=[18 + 160 * count / most for count in rows], color=_COLOURS["first"], alpha=0.8,
                     linewidths=0)  # fmt: skip
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("confidence (a larger dot is more rows)")
        axes.set_ylabel("share that is right")
        spoken = "; ".join(f"confidence {said:.2f}, right {right:.2f} of {count} rows" for said, right, count in bins)
        return _svg(figure, f"Reliability: {spoken}")


def runs_plot(panels: Mapping[str, Sequence[RunLine]], x_label: str, mark: float | None) -> Markup:
    """Many runs over a common axis, a panel a quantity: the winner bold, dropped ones faint and ending in a cross.

    Args:
        panels: What is measured -> one line a run.
        x_label: Of the horizontal axes.
        mark: Place of a vertical line, such as the best step.
    """
    with _figure(7.2, 2.8, 1, len(panels)) as (figure, grid):
        for axes, (y_label, lines) in zip(grid.flat, panels.items(), strict=True):
            for line in sorted(lines, key=lambda line: RUN_ROLES.index(line.role)):
                _draw_run(axes, line, label=1 < len(lines) <= MOST_NUMBERED_RUNS)
            if mark is not None:
                axes.axvline(mark, color=_COLOURS["third"], linewidth=1.2, linestyle="--")
            axes.set_xlabel(x_label)
            axes.set_title(y_label, fontsize=10)
            axes.set_xlim(left=0)
            axes.margins(x=0.08)
        return _svg(figure, "; ".join(_spoken_run(name, line) for name, lines in panels.items() for line in lines))


def trade_off_plot(points: Sequence[TradeOffMark], x_label: str, y_label: str) -> Markup:
    """Two quantities against each other, each point with an interval on both sides and its name; the kept one bold."""
    with _figure(7.2, 3.2) as (figure, axes):
        axes.plot(*zip(*((point.x[0], point.y[0]) for point in points), strict=True), color=_COLOURS["faint"], linewidth=1)
        for point in points:
            colour = _COLOURS["first" if point.kept else "second"]
            (x, left, right), (y, low, high) = point.x, point.y
            axes.plot([left, right], [y, y], color=colour, linewidth=1.2, alpha=0.8)
            axes.plot([x, x], [low, high], color=colour, linewidth=1.2, alpha=0.8)
            axes.plot(x, y, color=colour, marker="o", markersize=9 if point.kept else 6)
            axes.annotate(point.name, (x, y), (7, 6), textcoords="offset points", fontsize=9, color=colour)
        axes.set_xlim(left=0)
        axes.margins(x=0.1, y=0.15)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        spoken = "; ".join(f"{point.name} {point.x[0]:.3f}, {point.y[0]:.3f}" for point in points)
        return _svg(figure, f"{y_label} against {x_label}: {spoken}")


def _draw_run(axes: Any, line: RunLine, *, label: bool) -> None:
    colour, alpha, width = {
        "dropped": (_COLOURS["second"], 0.5, 1.0),
        "finished": (_COLOURS["second"], 0.95, 1.3),
        "winner": (_COLOURS["first"], 1.0, 2.4),
    }[line.role]
    x, y = zip(*line.points, strict=True)
    axes.plot(x, y, color=colour, alpha=alpha, linewidth=width, marker="o", markersize=2 + width / 2, markeredgewidth=0)
    if line.role == "dropped":
        axes.plot(x[-1], y[-1], color=colour, alpha=0.9, marker="x", markersize=6, markeredgewidth=1.4)
    if label:
        axes.annotate(
            line.name, (x[-1], y[-1]), (5, -3), textcoords="offset points", fontsize=8, color=colour, alpha=max(alpha, 0.8)
        )


def _spoken_run(quantity: str, line: RunLine) -> str:
    return f"{quantity} of {line.name} ({line.role}) from {line.points[0][1]:.3f} to {line.points[-1][1]:.3f}"


def counts_plot(counts: Mapping[str, int], label: str) -> Markup:
    """Horizontal bars of counts, in the given order."""
    with _figure(7.2, 0.6 + 0.26 * len(counts)) as (figure, axes):
        axes.barh(range(len(counts)), list(counts.values()), height=0.62, color=_COLOURS["first"], alpha=0.85)
        axes.set_yticks(range(len(counts)), list(counts))
        axes.set_ylim(len(counts) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(visible=False, axis="y")
        return _svg(figure, f"{label}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


def histogram_plot(values: Sequence[int], label: str, limit: float | None, limit_name: str) -> Markup:
    """How often values occur, with a line where they end to be possible."""
    with _figure(7.2, 2.2) as (figure, axes):
        axes.hist(values, bins=min(40, max(1, len(set(values)))), color=_COLOURS["first"], alpha=0.85)
        if limit is not None:
            axes.axvline(limit, color=_COLOURS["third"], linewidth=1.4, linestyle="--")
            axes.annotate(limit_name, (limit, 0.94), (-4, 0), xycoords=("data", "axes fraction"), textcoords="offset points",
                          color=_COLOURS["third"], fontsize=9, ha="right")  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        axes.set_ylabel("rows")
        return _svg(figure, f"{label}: {len(values)} rows from {min(values)} to {max(values)}")


def clouds_plot(clouds: Sequence[Cloud], labels: Sequence[str], spoken: str) -> Markup:
    """Points of a prompt among points of real tokens, one panel a space, at most three side by side.

    Args:
        clouds: (title, tokens' points, prompt's points).
        labels: One for each point of the prompt.
        spoken: For those who cannot see it.
    """
    columns = min(3, len(clouds))
    rows = -(-len(clouds) // columns)
    with _figure(7.2, 4.2 if len(clouds) == 1 else 2.6 * rows, rows, columns) as (figure, grid):
        for axes, (title, tokens, prompt) in zip(grid.flat, clouds, strict=False):
            axes.scatter(*zip(*tokens, strict=True), s=7, color=_COLOURS["second"], alpha=0.35, linewidths=0)
            axes.scatter(*zip(*prompt, strict=True), s=30, color=_COLOURS["first"], alpha=0.9, linewidths=0)
            if len(clouds) == 1:
                for label, point in zip(labels, prompt, strict=True):
                    axes.annotate(label, point, (4, 3), textcoords="offset points", fontsize=8)
            axes.set_title(title, fontsize=10)
            axes.tick_params(labelbottom=False, labelleft=False, length=0)
        for axes in grid.flat[len(clouds) :]:
            axes.set_visible(False)
        return _svg(figure, spoken)


def norms_plot(norms: Sequence[Norms], label: str) -> Markup:
    """Norms of a prompt's vectors over the spread of the vocabulary's, one line a space.

    Args:
        norms: (title, the vocabulary's smallest, 5 %, 25 %, median, 75 %, 95 % and largest norm, the vectors' norms).
        label: Of the axis.
    """
    with _figure(7.2, 0.75 + 0.36 * len(norms)) as (figure, axes):
        for place, (_, levels, vectors) in enumerate(norms):
            low, fifth, quarter, median, three_quarters, nineteen, high = levels
            for left, right, thickness in ((low, high, 1), (fifth, nineteen, 5), (quarter, three_quarters, 10)):
                axes.plot([left, right], [place, place], color=_COLOURS["second"], alpha=0.45, linewidth=thickness,
                          solid_capstyle="butt")  # fmt: skip
            axes.plot(median, place, marker="|", markersize=11, color=_COLOURS["ink"])
            axes.scatter(vectors, [place] * len(vectors), s=20, alpha=0.7, color=_COLOURS["first"], linewidths=0, zorder=3)
        axes.set_yticks(range(len(norms)), [title for title, *_ in norms])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        axes.grid(visible=False, axis="y")
        spoken = "; ".join(
            f"{title}: vocabulary median {levels[3]:.2f}, prompt {min(v):.2f} to {max(v):.2f}" for title, levels, v in norms
        )
        return _svg(figure, f"{label}: {spoken}")


def standalone(plot: Markup) -> str:
    """A picture as a file of its own, on white."""
    colours = {"ink": "#3a4452", "faint": "#d5dae1", "first": "#2457c5", "second": "#7b8794", "third": "#b3261e"}
    style = "".join(f"--plot-{name}:{colour};" for name, colour in colours.items())
    return str(plot).replace("<svg", f'<svg style="background:#ffffff;{style}"', 1)


@contextmanager
def _figure(width: float, height: float, rows: int = 0, columns: int = 0) -> Iterator[tuple[Any, Any]]:
    """A figure of our style with one set of axes, or a grid of them; inches of 72 points, drawn without a display."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False) if rows else figure.subplots()


def _svg(figure: Any, spoken: str) -> Markup:
    """Inline SVG with a text for those who cannot see it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for name, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--plot-{name})")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1)
    # Made by matplotlib from numbers and names that it escapes itself.
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(spoken)}"', 1))  # noqa: S704
