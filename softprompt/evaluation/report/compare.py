"""Two evaluations side by side, as a page."""

from pathlib import Path

from softprompt.evaluation.gate_report import METRIC_TITLES
from softprompt.evaluation.side_by_side import SideBySide
from softprompt.pages.page import write_page
from softprompt.pages.plots import estimates_plot

MOST_DRAWN = 2


def write_comparison(path: Path, found: SideBySide) -> None:
    """Write the page."""
    headline, sentence, colour = conclusion(found)
    sides = (found.before, found.after)
    write_page(
        path,
        "compare",
        found=found,
        headline=headline,
        sentence=sentence,
        colour=colour,
        comparisons=[(METRIC_TITLES[each.metric], each) for each in found.comparisons],
        measured=[(METRIC_TITLES[old.metric], old, new) for old, new in found.measured],
        plots=[
            (
                _sentence(METRIC_TITLES[old.metric]),
                estimates_plot(
                    [(side.name, each.estimate, each.low, each.high) for side, each in zip(sides, (old, new), strict=True)],
                    METRIC_TITLES[old.metric],
                    {},
                ),
            )
            for old, new in found.measured[:MOST_DRAWN]
        ],
        identities=[
            ("prompt", *(f"sha256:{side.prompt}" for side in sides)),
            ("dataset", *(f"sha256:{side.dataset}" for side in sides)),
            ("test rows", *(f"{side.num_test_rows:,}" for side in sides)),
            ("base model", *(side.base_uri for side in sides)),
            ("verdict", *(side.verdict for side in sides)),
            ("measured", *(side.evaluated for side in sides)),
        ],
    )


def conclusion(found: SideBySide) -> tuple[str, str, str]:
    """In two words, in a sentence, and the colour of it; by the first metric."""
    first = found.comparisons[0]
    title = METRIC_TITLES[first.metric]
    shown = f"{title} {first.difference:+.3f} [{first.low:+.3f}, {first.high:+.3f}] on {found.num_common} common rows."
    if first.noise:
        return "No difference beyond noise", f"These rows cannot tell the two apart: {shown}", "undecided"
    better = first.difference > 0
    return ("The second is better" if better else "The second is worse"), _sentence(shown), "passed" if better else "rejected"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
