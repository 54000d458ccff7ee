"""Where a heavy step's work is done: here, or in a Ray cluster of its own that KubeRay makes for it."""

from typing import Any, Literal

from softprompt.errors import InvalidRequest
from softprompt.settings import Settings
from softprompt.step_request import Files, StepRequest

Backend = Literal["local", "rayjob"]
BACKENDS: tuple[Backend, ...] = ("local", "rayjob")


def run_step(
    request: StepRequest, inputs: Files, outputs: Files, settings: Settings, backend: str, *, place: str, task_config: Any
) -> None:
    """Have a step's work done.

    A step whose recipe asks for no Ray is done here whatever the backend: a cluster would only be waited for.

    Args:
        request: What is asked.
        inputs: Files and folders by the names of the step's inputs.
        outputs: Where to write, by the names of the step's outputs.
        settings: The deployment's.
        backend: `local` or `rayjob`; empty: the deployment's.
        place: URI of one of the step's outputs: it stays when the step is retried, and is no other step's.
        task_config: KFP's `dsl.TaskConfig` with what was set on the task, for the Ray pods.

    Raises:
        InvalidRequest: There is no such backend, or it cannot be used here.
        SoftpromptError: What the work raised.
    """
    # Each by itself: whoever only compiles the pipeline asks for the backends' names, and needs no torch.
    if backend_of(backend or settings.backend) == "local" or not request.uses_ray:
        from softprompt.step_work import do_work

        do_work(request, inputs, outputs)
        return
    from softprompt.rayjob.run import run_on_rayjob

    run_on_rayjob(request, inputs, outputs, storage=settings.checkpoints, place=place, task_config=task_config)


def backend_of(name: str) -> Backend:
    """The backend of this name. InvalidRequest: there is none."""
    for known in BACKENDS:
        if name == known:
            return known
    raise InvalidRequest("There is no such backend.", expected=" or ".join(BACKENDS), actual=name)
