"""`softprompt validate`: look at a dataset as the pipeline would, without a pipeline; and write it without what is wrong."""

import io
import json
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from softprompt.data.mend import Mended, Outputs, mend
from softprompt.data.report import DatasetReport, dataset_report, write_dataset_page
from softprompt.data.validate import examine
from softprompt.fetch import cache_folder
from softprompt.fetch.cache import fresh_folder
from softprompt.resolve import Overrides, resolve_recipe


@dataclass(frozen=True)
class Validated:
    """What a dataset is like.

    Attributes:
        report: What was found.
        mended: What is left of it, where that was asked for.
    """

    report: DatasetReport
    mended: Mended | None

    @property
    def exit_code(self) -> int:
        """0: a prompt can be trained on it, or on what is left of it; 3: it is refused."""
        refused = self.mended.remaining if self.mended else self.report.verdict == "refused"
        return 3 if refused else 0


def validate_here(
    recipe: str,
    dataset: str,
    *,
    html: Path | None = None,
    json_file: Path | None = None,
    fix: Path | None = None,
    overwrite: bool = False,
    told: Callable[[str], object] = lambda line: None,
) -> Validated:
    """Examine a dataset, write what was asked for.

    Args:
        recipe: A packaged name or a path.
        dataset: Another dataset than the recipe's; empty: the recipe's.
        html: File for the page.
        json_file: File for the same as JSON.
        fix: File for the rows that are kept.
        overwrite: Whether that file may be there already.
        told: Called with each line about the progress.

    Raises:
        DatasetRefused: It cannot be read at all.
        InvalidRequest: The recipe is wrong, or a file cannot be written.
    """
    with redirect_stdout(_Lines(told)):
        resolved = resolve_recipe(recipe, Overrides(dataset=dataset))
        outputs = Outputs.at(fix, resolved.recipe.dataset) if fix else None
        if outputs:
            outputs.check(resolved, overwrite=overwrite)
        with fresh_folder(cache_folder() / f".validate.{os.getpid()}.rows") as folder:
            found = examine(resolved, folder)
            report = dataset_report(resolved, found.data, found.learned)
            if html:
                write_dataset_page(html, report, found.data, found.learned)
            if json_file:
                json_file.write_text(json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")
            return Validated(report, mend(resolved, found, outputs, folder) if outputs else None)


class _Lines(io.TextIOBase):
    """Standard output, for whoever wants its lines: the library tells its progress there, as a pod's log wants it."""

    def __init__(self, told: Callable[[str], object]) -> None:
        self._told, self._line = told, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in filter(None, lines):
            self._told(line)
        return len(text)
