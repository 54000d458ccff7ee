"""`softprompt export` and `softprompt import`: prompt files to other formats and back."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from softprompt.cli.app import app
from softprompt.cli.terminal import console, readable_errors, refuse_occupied
from softprompt.settings import Settings


@app.command(
    epilog="Examples: [bold]softprompt export support-triage --format peft --out triage-peft[/] · "
    "[bold]softprompt export support-triage --format tgis --out prefixes/support-triage[/]"
)
def export(
    prompt: Annotated[str, typer.Argument(help="A prompt's directory, its recipe's name, or its digest.")],
    export_format: Annotated[Literal["peft", "tgis", "vllm"], typer.Option("--format", help="Who is to read it.")],
    out: Annotated[Path, typer.Option(help="Directory to write; there must be nothing in it.")],
    base: Annotated[str, typer.Option(help="Its base model.", show_default="as its run says, else embedded://base")] = "",
) -> None:
    """Write a prompt in another server's format.

    peft: what PeftModel.from_pretrained loads, shallow or deep. tgis: decoder.pt for IBM's text-generation-inference, a folder
    under its PREFIX_STORE_PATH whose name is the prefix id; shallow only. vllm: vLLM takes no prompts of its own, only
    prompt_embeds, the embeddings of a whole sequence; so this writes the prompt's rows, and in prompt_embeds.json how a client
    puts them before the embedded input; shallow only.

    Template and labels are in none of these formats: whoever serves the export brings them.
    """
    from softprompt.artifact import PromptFile
    from softprompt.export import ExportedBase, export_prompt
    from softprompt.inspect_prompt import find_prompt

    with readable_errors():
        refuse_occupied(out)
        found = find_prompt(prompt, Settings.from_environment().runs)
        file = PromptFile.read(found.directory)
        written = export_prompt(file, export_format, out, ExportedBase.of(found.base_uri(base), file))
    for path in written:
        console.print(f"[dim]{path.stat().st_size:>12,} bytes[/]  {escape(str(path))}", highlight=False, soft_wrap=True)


@app.command(
    "import",
    epilog="Example: [bold]softprompt import triage-peft --recipe my-recipe.yaml --out triage[/]",
)
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="Directory that PEFT's save_pretrained wrote.")],
    recipe: Annotated[str, typer.Option(help="Recipe whose task says template, labels and verbalisers.")],
    out: Annotated[Path, typer.Option(help="Directory to write the prompt file to; there must be nothing in it.")],
    base: Annotated[str, typer.Option(help="Base model that it was trained on.", show_default="the recipe's")] = "",
    task: Annotated[
        int | None, typer.Option(help="Which task of a multitask prompt, counted from 0.", show_default="the only one")
    ] = None,
) -> None:
    """Make a prompt file of a PEFT checkpoint: prompt tuning, P-tuning, prefix tuning, or one task of multitask prompt tuning.

    PEFT records neither template nor labels nor which base it was, so these come from you. The prompt is checked against the
    base, shape and norms, as serving checks it; softprompt inspect says what it learned.
    """
    from softprompt.import_peft import import_prompt

    with readable_errors():
        refuse_occupied(out)
        file = import_prompt(checkpoint, recipe, out, base_uri=base, task=task)
    manifest = file.manifest
    size = f"{manifest.num_tokens} tokens, {manifest.parts[0].length_bytes:,} bytes"
    console.print(f"{manifest.kind} prompt of {size}", highlight=False)
    console.print(f"[dim]prompt sha256:{file.digest} in {escape(str(out))}[/]", highlight=False, soft_wrap=True)
