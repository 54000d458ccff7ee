"""An inspection in a terminal of 80 columns: one line a vector, then norms, a small map, and the heads that listen."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from softprompt.inspection.inspection import Inspection, NearToken, Projection
from softprompt.inspection.report import reading_at_the_answer, shown_spaces

EIGHTHS = " ▏▎▍▌▋▊▉█"
SHADES = " ▁▂▃▄▅▆▇█"
DENSITIES = " ··::"
BAR_COLUMNS, GAP, WIDEST = 6, 2, 100
MAP_COLUMNS, MAP_ROWS = 72, 14
MOST_LAYERS = 16


def print_inspection(found: Inspection, console: Console) -> None:
    """Print what a prompt learned.

    Args:
        found: What was found.
        console: Where to.
    """
    width = f"{found.num_numbers:,} numbers, {found.num_bytes:,} bytes"
    console.print(Text.assemble((found.name, "bold"), f"  {found.kind}, {found.num_tokens} tokens, {width}"), soft_wrap=True)
    console.print(f"[dim]sha256:{found.prompt[:12]}, for {found.base_uri}[/]", highlight=False, soft_wrap=True)
    for part, why in found.left_out.items():
        console.print(Text(f"left out: {part}. {why}", "yellow"))
    if found.spaces:
        _print_vectors(found, console)
        _print_norms(found, console)
        _print_map(found, console)
    if found.attention:
        _print_attention(found, console)


def _print_vectors(found: Inspection, console: Console) -> None:
    shown = shown_spaces(found)
    shown = shown if len(shown) < 3 else [shown[0], shown[-1]]
    reading = reading_at_the_answer(found)
    paid = reading.by_vector if reading else []
    norms = [f"{norm:.2f}" for norm in found.compared[0].norms.prompt]
    widths = (len(str(found.num_tokens)), max(map(len, [*norms, "norm"])), BAR_COLUMNS + 7 if paid else 0)
    left = min(console.width, WIDEST) - sum(widths) - GAP * (len(shown) + 1 + bool(paid))
    table = _table()
    table.add_column("", justify="right", width=widths[0])
    for space in shown:
        title = "nearest tokens (cosine)" if found.kind == "shallow" else f"nearest by value, layer {space.layer}"
        table.add_column(title, width=left // len(shown), no_wrap=True, overflow="ellipsis")
    table.add_column("norm", justify="right", width=widths[1])
    if paid:
        table.add_column("attention", width=widths[2])
    for vector in range(found.num_tokens):
        tokens = [_tokens(space.nearest[vector], space.chance_cosine, 3 if len(shown) == 1 else 2) for space in shown]
        bar = [_bar(paid[vector], max(paid))] if paid else []
        table.add_row(Text(str(vector + 1), "dim"), *tokens, norms[vector], *bar)
    console.print()
    console.print(table)
    chance = ", ".join(f"{space.chance_cosine:.2f}" for space in shown)
    console.print(Text(f"dim: no nearer than chance ({chance})  ␣: a space  attention: at the answer", "dim"))


def _tokens(tokens: Sequence[NearToken], chance: float, most: int) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for token in tokens[:most]:
        far = token.cosine <= chance
        line.append(token.text, "dim" if far else "cyan")
        line.append(f" {token.cosine:.2f}  ", "dim" if far else "")
    return line


def _bar(share: float, largest: float) -> Text:
    eighths = round(8 * BAR_COLUMNS * share / largest) if largest else 0
    blocks = EIGHTHS[8] * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
    return Text.assemble((f"{blocks:<{BAR_COLUMNS}}", "blue"), f"{100 * share:5.1f} %")


def _print_norms(found: Inspection, console: Console) -> None:
    table = _table()
    for title in ("norms", "the prompt's", "tokens', 5 to 95 %", "beyond 95 %"):
        table.add_column(title, justify="left" if title == "norms" else "right", no_wrap=True)
    layers = {space.layer for space in shown_spaces(found)}
    for space in found.spaces:
        if space.layer in layers:
            norms, levels = space.norms.prompt, space.norms.vocabulary
            beyond = sum(norm > levels[5] for norm in norms)
            spread, usual = f"{min(norms):.2f} to {max(norms):.2f}", f"{levels[1]:.2f} to {levels[5]:.2f}"
            table.add_row(space.title, spread, usual, f"{beyond} of {len(norms)}")
    console.print()
    console.print(table)


def _print_map(found: Inspection, console: Console) -> None:
    space = found.compared[0]
    console.print()
    console.print(Text.assemble(("among real tokens", "bold"), f": {space.title}, the tokens' two main directions"))
    for line in token_map(space.projection):
        console.print(Text("   ").append_text(line), no_wrap=True)
    inside = f"{100 * space.projection.prompt_inside:.0f} %"
    console.print(Text(f"· tokens  ● the prompt's vectors ({inside} of their distance from the centre is seen)", "dim"))


def token_map(projection: Projection) -> Iterator[Text]:
    """A projection in characters, line by line: denser marks where more tokens are, a disc where the prompt is."""
    points = [*projection.vocabulary, *projection.prompt]
    low, high = ([edge(point[axis] for point in points) for axis in (0, 1)] for edge in (min, max))

    def cell(point: tuple[float, float]) -> tuple[int, int]:
        x, y = ((point[axis] - low[axis]) / ((high[axis] - low[axis]) or 1.0) for axis in (0, 1))
        return round((1 - y) * (MAP_ROWS - 1)), round(x * (MAP_COLUMNS - 1))

    tokens, prompt = Counter(map(cell, projection.vocabulary)), set(map(cell, projection.prompt))
    for row in range(MAP_ROWS):
        line = Text(no_wrap=True)
        for column in range(MAP_COLUMNS):
            is_prompt = (row, column) in prompt
            density = min(tokens[row, column], len(DENSITIES) - 1)
            line.append("●" if is_prompt else DENSITIES[density], "blue" if is_prompt else "dim")
        yield line


def _print_attention(found: Inspection, console: Console) -> None:
    console.print()
    console.print(Text.assemble(("attention paid to the prompt", "bold"), f", {found.num_rows} rows ({found.rows})"))
    table = _table()
    table.add_column("")
    names = list(found.attention)
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    layers = [found.attention[name].by_head for name in names]
    for layer in range(max(map(len, layers))):
        if layer == MOST_LAYERS:
            table.add_row("", Text(f"... and {max(map(len, layers)) - layer} layers more, in --html and --json", "dim"))
            break
        table.add_row(Text(f"layer {layer + 1}", "dim"), *(_heads(each[layer]) if layer < len(each) else "" for each in layers))
    reports = found.attention.values()
    table.add_row(
        Text("mean", "dim"), *(f"{100 * each.mean_share:.0f} % (even: {100 * each.even_share:.0f} %)" for each in reports)
    )
    console.print(table)


def _heads(shares: Sequence[float]) -> Text:
    """One mark a head, and the percentages where there are few."""
    marks = "".join(SHADES[min(8, round(8 * share))] for share in shares)
    numbers = " ".join(f"{100 * share:3.0f}" for share in shares) if len(shares) <= 8 else ""
    return Text.assemble((marks, "blue"), "  ", numbers)


def _table() -> Table:
    return Table(box=None, pad_edge=False, header_style="dim", padding=(0, GAP, 0, 0))
