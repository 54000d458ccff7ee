"""The table of `release status`: Git, store and nodes beside each other, in words that need no colour."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from softprompt.release.promotion.node_reports import NodeReport
from softprompt.release.promotion.status import ChannelStatus, NameStatus


def print_status(found: ChannelStatus, console: Console) -> None:
    """Print a channel's status.

    Args:
        found: What to print.
        console: Where.
    """
    head = f"generation {found.generation}, signed {found.created}, fresh until {found.expires}"
    console.print(f"channel [bold]{escape(found.channel)}[/], {head}", highlight=False, soft_wrap=True)
    git = f"commit {found.commit[:12]}" if found.commit else "no checkout here: give --environments"
    console.print(f"Git: {git}; the store was published from {_commit(found)}", highlight=False, soft_wrap=True)
    if found.names:
        console.print(_table(found))
    if found.nodes:
        console.print(_nodes(found))
    for line in found.drift:
        console.print(Text(f"differs: {line}", "yellow"), soft_wrap=True)
    if not found.drift:
        console.print(Text("all in step", "green"))


def _commit(found: ChannelStatus) -> str:
    return f"commit {found.generation_commit[:12]}" if found.generation_commit else "no commit"


def _table(found: ChannelStatus) -> Table:
    table = Table("name", "Git wants", "store says", "version", "", box=None, header_style="dim", pad_edge=False)
    for one in found.names:
        known = bool(found.commit)
        mark = Text("in step", "green") if one.in_step else Text("differs", "yellow")
        table.add_row(one.name, _git(one, known=known), _digests(one.store), one.version, mark if known else "")
    return table


def _git(one: NameStatus, *, known: bool) -> str:
    if not known:
        return "?"
    return _digests(one.git) if one.has_file else "(no file)"


def _digests(digests: tuple[str, ...]) -> str:
    return " ".join(digest[:12] for digest in digests) or "nothing"


def _nodes(found: ChannelStatus) -> Table:
    table = Table("node", "generation", "ready", "stale", "prompts", box=None, header_style="dim", pad_edge=False)
    for node in found.nodes:
        table.add_row(escape(node.url), *_node(node, found.generation))
    return table


def _node(node: NodeReport, generation: int) -> tuple[Text | str, ...]:
    if node.error:
        return Text("not known", "red"), "", "", ""
    number = Text(str(node.generation), "green" if node.generation == generation else "yellow")
    return number, "yes" if node.ready else "no", "yes" if node.stale else "no", str(node.num_prompts)
