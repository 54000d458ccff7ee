"""Step `resolve_recipe`: a recipe, by name, URI or text, with defaults filled in and references replaced by digests."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def resolve_recipe(
    recipe: str,
    base_model: str,
    channel: str,
    dataset: str,
    num_tokens: int,
    num_workers: int,
    prompt_kind: str,
    prompt_name: str,
    seed: int,
    resolved_recipe: dsl.OutputPath(str),  # type: ignore[valid-type]  # KFP's own way to name an output
) -> None:
    """Fix what this run will do, and find out now whether the services it needs are there.

    Args:
        recipe: A packaged name such as `demo`, a URI, or the YAML text itself.
        base_model: Another base model URI; empty: the recipe's.
        channel: Another channel; empty: the recipe's.
        dataset: Another dataset URI; empty: the recipe's.
        num_tokens: Another prompt length; 0: the recipe's.
        num_workers: Ray Train workers; 0: the recipe's.
        prompt_kind: `shallow` or `deep`; empty: the recipe's.
        prompt_name: Another prompt name; empty: the recipe's.
        seed: Another seed; -1: the recipe's.
        resolved_recipe: The result, JSON.
    """
    from pathlib import Path

    from softprompt.progress import step_errors
    from softprompt.resolve import Overrides
    from softprompt.run_channel import prepare_run
    from softprompt.settings import Settings
    from softprompt.tracking import check_tracking

    with step_errors("resolve_recipe"):
        overrides = Overrides(
            base_model=base_model,
            channel=channel,
            dataset=dataset,
            num_tokens=num_tokens,
            num_workers=num_workers,
            prompt_kind=prompt_kind,
            prompt_name=prompt_name,
            seed=seed,
        )
        settings = Settings.from_environment()
        check_tracking(settings.tracking_uri)
        resolved = prepare_run(recipe, overrides, settings)
        Path(resolved_recipe).write_bytes(resolved.to_bytes())
