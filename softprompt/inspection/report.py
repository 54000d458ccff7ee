"""An inspection as one page: what the vectors are near to, how long they are, where they lie, and who listens to them."""

from pathlib import Path

from softprompt.inspection.inspection import AttentionReport, Inspection, SpaceReport
from softprompt.pages.page import percent, write_page
from softprompt.pages.plots import clouds_plot, norms_plot

NUM_SHOWN_LAYERS = 3
"""Layers whose nearest tokens a person is shown; the JSON has all."""


def write_inspection_report(path: Path, found: Inspection) -> None:
    """Write the page.

    Args:
        path: File to write.
        found: What was found.
    """
    shown = shown_spaces(found)
    write_page(
        path,
        "inspect",
        found=found,
        facts=_facts(found),
        shown=shown,
        vectors=_vectors(found, shown),
        norms=norms_plot([(space.title, space.norms.vocabulary, space.norms.prompt) for space in found.spaces], "norm")
        if found.spaces
        else None,
        projection=_projection(shown),
        readings=list(found.attention.items()),
    )


def shown_spaces(found: Inspection) -> list[SpaceReport]:
    """The spaces with nearest tokens that a person is shown: all, or some layers from the first to the last."""
    return [found.compared[place] for place in spread_evenly(len(found.compared), NUM_SHOWN_LAYERS)]


def spread_evenly(count: int, most: int) -> list[int]:
    """At most `most` places among `count`, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(number * (count - 1) / (most - 1)) for number in range(most)]


def reading_at_the_answer(found: Inspection) -> AttentionReport | None:
    """The reading at the answer, by which vectors are compared; None where there is none."""
    return found.attention.get("at the answer")


def _facts(found: Inspection) -> list[tuple[str, str]]:
    facts = [
        (f"{found.num_tokens}", f"{found.kind} prompt tokens, {found.num_numbers:,} numbers"),
        (f"{found.num_bytes:,} B", "prompt file"),
    ]
    for name, reading in found.attention.items():
        even = f"{100 * reading.even_share:.0f} %"
        facts.append((percent(reading.mean_share), f"of the attention {name} goes to the prompt (even: {even})"))
    for space in found.compared[:1]:
        best = max(tokens[0].cosine for tokens in space.nearest)
        facts.append((f"{best:.2f}", f"largest cosine to a token, {space.title} (chance: {space.chance_cosine:.2f})"))
    return facts


def _vectors(found: Inspection, shown: list[SpaceReport]) -> list[dict[str, object]]:
    """One line a vector: nearest tokens in the shown spaces, rank of its norm, attention."""
    reading = reading_at_the_answer(found)
    paid = reading.by_vector if reading else [None] * found.num_tokens
    largest = max((share for share in paid if share is not None), default=0.0) or 1.0
    return [
        {
            "number": vector + 1,
            "nearest": [(space.nearest[vector], space.chance_cosine) for space in shown],
            "rank": found.compared[0].norms.ranks[vector] if found.compared else None,
            "norm": found.compared[0].norms.prompt[vector] if found.compared else None,
            "attention": paid[vector],
            "bar": (paid[vector] or 0.0) / largest,
        }
        for vector in range(found.num_tokens)
    ]


def _projection(shown: list[SpaceReport]) -> object:
    if not shown:
        return None
    clouds = [(space.title, space.projection.vocabulary, space.projection.prompt) for space in shown]
    labels = [str(number + 1) for number in range(len(shown[0].projection.prompt))]
    spoken = "; ".join(f"{space.title}: the prompt's vectors among a sample of tokens" for space in shown)
    return clouds_plot(clouds, labels, spoken)
