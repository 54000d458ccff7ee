"""What `mlflow.pyfunc.load_model` runs for a registered prompt: load its base, answer rows.

MLflow stores this file's text, not a pickle of an object. It answers a data frame with the template's columns. Where the base
lies is not part of a prompt: the run's URI is the default, and elsewhere `load_model(..., model_config={"base": URI})` says it.
It is loaded in the number format of the run.
"""

from pathlib import Path

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class RegisteredPrompt(PythonModel):
    """Answers rows with a registered prompt."""

    def load_context(self, context: PythonModelContext) -> None:
        """Verify the prompt file; the base is loaded with the first rows."""
        from softprompt.artifact import PromptFile

        self.prompt = PromptFile.read(Path(context.artifacts["prompt"]))

    def predict(self, context: PythonModelContext, model_input, params=None) -> list[str]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """The answer for each row of a data frame with the template's columns."""
        from softprompt.base_model import load_base_model
        from softprompt.engine.fit import fitting_prompt
        from softprompt.engine.predictor import Predictor
        from softprompt.engine.task import EncodedTask
        from softprompt.fetch import fetch_base
        from softprompt.numerics import parse_numerics

        uri = str(context.model_config["base"])
        dtype = parse_numerics(str(context.model_config.get("dtype", "float32")), "model_config")
        base = load_base_model(fetch_base(uri), dtype=dtype, expected_fingerprint=self.prompt.manifest.base_fingerprint)
        task = EncodedTask.of_manifest(base.text, self.prompt.manifest)
        soft = fitting_prompt(base, self.prompt)
        rows = [{str(column): str(value) for column, value in row.items()} for row in model_input.to_dict(orient="records")]
        return [prediction.output for prediction in Predictor(base, task, soft).predict(rows)]


set_model(RegisteredPrompt())
