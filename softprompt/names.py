"""Types that documents of every kind share: recipes, prompt files, records of a release.

They stand alone because a serving node reads channels and prompt files, and never a recipe.
"""

from typing import Annotated, Literal

from pydantic import StringConstraints

PromptKind = Literal["shallow", "deep"]
TaskType = Literal["classification", "generation"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
