"""How often gates pass a prompt that is not good enough, and how often one that is: `python -m tests.bench.gate_errors`.

Prompts of known truth are evaluated again and again on made-up test rows. Wrongly passed: the truth lies exactly on the
threshold, and the gate says `passed`; at 95 % this may happen in 2.5 % of evaluations. Power: the truth is better, and the gate
says so.

The limits are those that gates use; only drawing the rows is short-cut: rows that count alike are drawn as counts.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import permutations

import numpy as np

from softprompt.evaluation.bootstrap import acceleration_of, bca_limits, wide_limits
from softprompt.evaluation.intervals import unseen
from softprompt.evaluation.metrics import Statistic, mean, statistic
from softprompt.evaluation.observations import Answers, Floats
from softprompt.evaluation.proportions import exact_limits, paired_limits, unpaired_limits
from tests.bench.rows import BenchRow, bench_arguments, show

CONFIDENCE = 0.95
NOMINAL = (1 - CONFIDENCE) / 2
ROWS = (50, 100, 200, 400, 1000)
RATES = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
GAPS = (0.05, 0.1, 0.2)
SIMULATIONS = 20_000
BOOTSTRAPPED = 2_000
"""Simulations where each needs a bootstrap."""
RESAMPLES = 1_000


@dataclass(frozen=True)
class Found:
    """One cell of the grid.

    Attributes:
        kind: Of the gate.
        num_rows: Test rows in all.
        truth: What was true, in words.
        simulations: Evaluations.
        wrongly_passed: Share of them that passed with the truth on the threshold.
        power: Share that passed with a better truth; None where no truth is better by so much.
    """

    kind: str
    num_rows: int
    truth: str
    simulations: int
    wrongly_passed: float
    power: float | None = None


# Exact and square-and-add limits --------------------------------------------------------------------------------------------


def floor(num_rows: int, simulations: int) -> Iterator[Found]:
    """`accuracy at_least rate`; better: 5 points."""

    def passed(rate: float, threshold: float) -> float:
        low, _ = exact_limits(np.arange(num_rows + 1), num_rows, CONFIDENCE)
        return float((low[_draw(num_rows, rate).binomial(num_rows, rate, simulations)] >= threshold).mean())

    for rate in RATES:
        power = passed(rate + 0.05, rate) if rate + 0.05 <= 1 else None
        yield Found("floor", num_rows, f"{rate:g}", simulations, passed(rate, rate), power)


def paired(margin: float, num_rows: int, simulations: int) -> Iterator[Found]:
    """`accuracy better_than by margin`, or `not_worse_than` where the margin is negative; better: 5 points more lead."""

    def passed(mine: float, theirs: float, correlation: float) -> float:
        only_mine, only_theirs = _discordant_shares(mine, theirs, correlation)
        counts = _draw(num_rows, mine, correlation).multinomial(
            num_rows, [only_mine, only_theirs, 1 - only_mine - only_theirs], simulations
        )
        pairs, times = np.unique(counts[:, :2], axis=0, return_counts=True)
        low, _ = paired_limits(pairs[:, 0], pairs[:, 1], num_rows, CONFIDENCE)
        return float(times[low > margin].sum() / simulations)

    kind = f"better than by {margin:g}" if margin >= 0 else f"not worse than by {-margin:g}"
    for rate in RATES:
        for correlation in CORRELATIONS if rate - margin <= 1 else ():
            power = passed(rate, rate - margin - 0.05, correlation)
            yield Found(
                kind,
                num_rows,
                f"{rate:g}, correlation {correlation:g}",
                simulations,
                passed(rate, rate - margin, correlation),
                power,
            )


def slices_floor(num_rows: int, simulations: int) -> Iterator[Found]:
    """`accuracy at_least rate` in each of three slices: all on the threshold, or one, the others perfect; better: 10 points."""
    sizes = _sizes(num_rows, (0.5, 0.3, 0.2))

    def passed(truths: Sequence[float], threshold: float) -> float:
        draw = _draw(num_rows, threshold)
        lows = [exact_limits(np.arange(size + 1), size, CONFIDENCE)[0] for size in sizes]
        kept = [
            low[draw.binomial(size, truth, simulations)] >= threshold
            for low, size, truth in zip(lows, sizes, truths, strict=True)
        ]
        return float(np.all(kept, axis=0).mean())

    for rate in RATES:
        power = passed([rate + 0.1] * 3, rate) if rate + 0.1 <= 1 else None
        yield Found("slices floor", num_rows, f"all {rate:g}", simulations, passed([rate] * 3, rate), power)
        yield Found("slices floor", num_rows, f"one {rate:g}", simulations, passed([rate, 1, 1], rate))


def gap(shares: tuple[float, ...], num_rows: int, simulations: int) -> Iterator[Found]:
    """`gap_at_most` between slices of these shares of the rows; also demographic parity. Better: no gap at all."""
    kind = f"gap of {len(shares)} slices, smallest {min(shares):.0%}"
    sizes = _sizes(num_rows, shares)
    for rate in RATES:
        for limit in GAPS:
            for low in range(len(sizes)):  # the slice that is worse
                truths = [rate - limit * (place == low) for place in range(len(sizes))]
                wrong = _gaps_kept(sizes, truths, limit, simulations).mean()
                power = float(_gaps_kept(sizes, [rate] * len(sizes), limit, simulations).mean()) if limit == 0.2 else None
                yield Found(kind, num_rows, f"{rate:g}, gap {limit:g}, slice {low}", simulations, float(wrong), power)


def equalised_odds(num_rows: int, simulations: int) -> Iterator[Found]:
    """Two groups, 30 % of each deserve the label; a gap on the limit among these, or among the others, or both."""
    deserving, others = _sizes(num_rows, (0.15, 0.15)), _sizes(num_rows, (0.35, 0.35))
    for rate in RATES:
        for limit in GAPS:
            for gaps in ((limit, 0.0), (0.0, limit), (limit, limit)):
                kept = _gaps_kept(deserving, (rate, rate - gaps[0]), limit, simulations)
                kept &= _gaps_kept(others, (0.2 + gaps[1], 0.2), limit, simulations, seed=1)
                yield Found("equalised odds", num_rows, f"{rate:g}, gaps {gaps}", simulations, float(kept.mean()))


def _gaps_kept(sizes: Sequence[int], truths: Sequence[float], limit: float, simulations: int, seed: int = 0) -> Floats:
    """`[simulations]`, whether every pair's interval stays at or below the limit."""
    draw = _draw(sum(sizes), truths[0], seed)
    right = [draw.binomial(size, truth, simulations) for size, truth in zip(sizes, truths, strict=True)]
    kept = np.ones(simulations, dtype=bool)
    for a, b in permutations(range(len(sizes)), 2):
        high = _upper_table(sizes[a], sizes[b])[right[a], right[b]]
        kept &= high <= limit
    return kept


@lru_cache(maxsize=64)
def _upper_table(rows_a: int, rows_b: int) -> Floats:
    """Upper limit of the difference for each pair of counts."""
    a, b = np.arange(rows_a + 1), np.arange(rows_b + 1)
    return unpaired_limits(a[:, None], rows_a, b[None, :], rows_b, CONFIDENCE)[1]


# Bootstrap limits -----------------------------------------------------------------------------------------------------------

LABELS = 4
BALANCED, SKEWED = (0.25, 0.25, 0.25, 0.25), (0.55, 0.25, 0.15, 0.05)


def macro_f1_floor(prior: tuple[float, ...], num_rows: int, simulations: int) -> Iterator[Found]:
    """`macro_f1 at_least`, four labels, errors evenly among the other labels; better: 5 points of accuracy."""
    cells = [(target, said) for target in range(LABELS) for said in range(LABELS)]
    targets = [str(target) for target, _ in cells]
    value = statistic("macro_f1", targets, Answers(tuple(str(said) for _, said in cells)))

    def shares(rate: float) -> Floats:
        return np.array([prior[t] * (rate if t == o else (1 - rate) / (LABELS - 1)) for t, o in cells])

    def passed(rate: float, threshold: float) -> float:
        low, _ = _bootstrapped(value, shares(rate), targets, num_rows, simulations)
        return float((low >= threshold).mean())

    for rate in RATES:
        truth = float(value(shares(rate)[None])[0])
        power = passed(rate + 0.05, truth) if rate + 0.05 <= 1 else None
        name = "balanced" if prior == BALANCED else "skewed"
        yield Found(f"macro-F1 floor, {name}", num_rows, f"{rate:g}", simulations, passed(rate, truth), power)


def row_score_floor(num_rows: int, simulations: int) -> Iterator[Found]:
    """`token_f1 at_least` and the like: a share of perfect rows, the others evenly at 0, 1/4, 1/2 and 3/4; better: 5 points."""
    scores = np.array([1.0, 0.0, 0.25, 0.5, 0.75])
    value = mean(scores)

    def passed(rate: float, threshold: float) -> float:
        shares = np.array([rate, *[(1 - rate) / 4] * 4])
        low, _ = _bootstrapped(value, shares, None, num_rows, simulations)
        return float((low >= threshold).mean())

    for rate in RATES:
        truth = rate + (1 - rate) * 0.375
        power = passed(rate + 0.08, truth) if rate + 0.08 <= 1 else None
        yield Found("row score floor", num_rows, f"{rate:g} perfect", simulations, passed(rate, truth), power)


def macro_f1_paired(margin: float, num_rows: int, simulations: int) -> Iterator[Found]:
    """`macro_f1 better_than` or `not_worse_than` (margin below 0), three balanced labels; better: 5 points more lead."""
    cells = [(t, a, b) for t in range(3) for a in range(3) for b in range(3)]
    targets, mine, theirs = (tuple(str(cell[place]) for cell in cells) for place in range(3))
    first, second = (statistic("macro_f1", targets, Answers(outputs)) for outputs in (mine, theirs))

    def shares(rate: float, other: float, correlation: float) -> Floats:
        only_mine, only_theirs = _discordant_shares(rate, other, correlation)
        both = rate - only_mine
        chance = {(1, 1): both, (1, 0): only_mine / 2, (0, 1): only_theirs / 2, (0, 0): (1 - both - only_mine - only_theirs) / 4}
        return np.array([chance[int(t == a), int(t == b)] / 3 for t, a, b in cells])

    def passed(rate: float, other: float, correlation: float) -> float:
        low, _ = _bootstrapped(lambda w: first(w) - second(w), shares(rate, other, correlation), targets, num_rows, simulations)
        return float((low > margin).mean())

    kind = f"macro-F1 better than by {margin:g}" if margin >= 0 else f"macro-F1 not worse than by {-margin:g}"
    for rate in (0.8, 0.95):
        for correlation in (0.3, 0.9):
            truth = f"{rate:g}, correlation {correlation:g}"
            power = passed(rate, rate - margin - 0.05, correlation)
            yield Found(kind, num_rows, truth, simulations, passed(rate, rate - margin, correlation), power)


def calibration(num_rows: int, simulations: int) -> Iterator[Found]:
    """`ece at_most limit`; confidences of 0.55 to 0.95, the limit too high everywhere; better: perfectly calibrated."""
    levels = (0.55, 0.65, 0.75, 0.85, 0.95)
    cells = [(level, hit) for level in levels for hit in (True, False)]
    targets = ["x" if hit else "y" for _, hit in cells]
    answers = Answers(("x",) * len(cells), np.array([[level, 1 - level] for level, _ in cells]))
    value = statistic("ece", targets, answers, ("x", "y"))

    def passed(excess: float, limit: float) -> float:
        shares = np.array([(level - excess if hit else 1 - level + excess) / len(levels) for level, hit in cells])
        _, high = _bootstrapped(value, shares, None, num_rows, simulations, biased=True)
        return float((high <= limit).mean())

    for limit in GAPS:
        yield Found("calibration error ceiling", num_rows, f"{limit:g}", simulations, passed(limit, limit), passed(0.0, limit))


def _bootstrapped(
    value: Statistic, shares: Floats, targets: Sequence[str] | None, num_rows: int, simulations: int, *, biased: bool = False
) -> tuple[Floats, Floats]:
    """The gate's limits on many test sets, `[simulations]` each.

    Args:
        value: The metric, as a function of how often each kind of row occurs.
        shares: `[kinds]`, how often it truly does.
        targets: The kinds' labels for a mean over labels; None for a mean over rows.
        num_rows: Rows of a test set.
        simulations: Test sets.
        biased: As for `bootstrap_interval`.
    """
    draw, limits = _draw(num_rows, float(shares[0])), []
    for _ in range(0, simulations, 500):
        counts = draw.multinomial(num_rows, shares / shares.sum(), 500)
        resampled = draw.multinomial(num_rows, np.repeat(counts / num_rows, RESAMPLES, axis=0)).astype(float)
        samples, estimates = value(resampled).reshape(500, RESAMPLES), value(counts.astype(float))
        if biased:
            low, high = wide_limits(samples, estimates, CONFIDENCE)
        else:
            one = np.eye(len(shares))
            left_out = np.stack([value(np.maximum(counts - one[kind], 0.0)) for kind in range(len(shares))], axis=1)
            low, high = bca_limits(samples, estimates, acceleration_of(left_out, counts.astype(float)), CONFIDENCE)
        reach = np.array([_reach(row, targets) for row in counts])
        limits.append((np.minimum(low, estimates - reach), np.maximum(high, estimates + reach)))
    lows, highs = zip(*limits, strict=True)
    return np.concatenate(lows), np.concatenate(highs)


def _reach(counts: Floats, targets: Sequence[str] | None) -> float:
    """As `measure.reach_of`, from counts of kinds of rows."""
    if targets is None:
        return _unseen(int(counts.sum()))
    per_label: dict[str, int] = defaultdict(int)
    for count, target in zip(counts, targets, strict=True):
        per_label[target] += int(count)
    present = [count for count in per_label.values() if count]
    return _unseen(min(present)) / len(present)


@lru_cache
def _unseen(num_rows: int) -> float:
    return unseen(num_rows, CONFIDENCE)


# The grid -------------------------------------------------------------------------------------------------------------------


def _discordant_shares(mine: float, theirs: float, correlation: float) -> tuple[float, float]:
    """Shares of rows that only one of two systems gets right, the correlation cut to what such rates allow."""
    both = mine * theirs + correlation * np.sqrt(mine * (1 - mine) * theirs * (1 - theirs))
    both = min(both, mine, theirs)
    return float(mine - both), float(theirs - both)


def _sizes(num_rows: int, shares: Sequence[float]) -> list[int]:
    return [max(1, round(num_rows * share)) for share in shares]


def _draw(*setting: float) -> np.random.Generator:
    """The same rows every time for the same setting."""
    return np.random.default_rng([round(abs(1000 * number)) for number in setting])


Kind = Callable[[int, int], Iterable[Found]]
EXACT: tuple[Kind, ...] = (
    floor,
    *(partial(paired, margin) for margin in (0.0, 0.02, -0.01, -0.02, -0.05, -0.1)),
    slices_floor,
    *(partial(gap, shares) for shares in ((0.5, 0.5), (0.1, 0.9), (0.5, 0.3, 0.2))),
    equalised_odds,
)
BOOTSTRAP: tuple[Kind, ...] = (
    partial(macro_f1_floor, BALANCED),
    partial(macro_f1_floor, SKEWED),
    partial(macro_f1_paired, 0.0),
    partial(macro_f1_paired, -0.05),
    row_score_floor,
    calibration,
)


def simulate(kinds: Iterable[Kind], rows: Sequence[int], simulations: int) -> list[Found]:
    """Every cell of the grid."""
    return [found for kind in kinds for num_rows in rows for found in kind(num_rows, simulations)]


def summary(cells: Iterable[Found]) -> Iterator[BenchRow]:
    """For each kind and number of rows the worst cell, and the mean power."""
    grouped: dict[tuple[str, int], list[Found]] = defaultdict(list)
    for cell in cells:
        grouped[cell.kind, cell.num_rows].append(cell)
    for (kind, num_rows), found in grouped.items():
        worst = max(found, key=lambda cell: cell.wrongly_passed)
        yield BenchRow.compare(
            f"{kind}, {num_rows} rows: wrongly passed at worst ({worst.truth})", 100 * worst.wrongly_passed, "%", 100 * NOMINAL
        )
        powers = [cell.power for cell in found if cell.power is not None]
        if powers:
            yield BenchRow.compare(f"{kind}, {num_rows} rows: power, mean", 100 * float(np.mean(powers)), "%", 100.0)


def main() -> None:
    """Simulate and print."""
    arguments = bench_arguments(__doc__ or "").parse_args()
    rows = (100, 400) if arguments.quick else ROWS
    exact = simulate(EXACT, rows, 2_000 if arguments.quick else SIMULATIONS)
    bootstrap = simulate(BOOTSTRAP, rows, 500 if arguments.quick else BOOTSTRAPPED)
    show("How often gates err", list(summary([*exact, *bootstrap])), arguments.json)


if __name__ == "__main__":
    main()
