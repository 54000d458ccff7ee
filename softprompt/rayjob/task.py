"""What was set on the KFP task (`dsl.TaskConfig`), for the Ray pods that do its work."""

from dataclasses import dataclass, field
from typing import Any, Self

Fragment = dict[str, Any]
"""A piece of a Kubernetes object."""


@dataclass(frozen=True)
class TaskSettings:
    """Pieces of a pod, as KFP's driver hands them on; what was not set is empty.

    Attributes:
        resources: Of a worker's container; empty: the deployment's.
        tolerations, node_selector, affinity: Where workers may run. The head, which no one wants to lose, stays where pods
            without any of these go.
        env: Of all Ray containers.
        volumes, volume_mounts: Of all Ray pods.
    """

    resources: Fragment = field(default_factory=dict)
    tolerations: list[Fragment] = field(default_factory=list)
    node_selector: dict[str, str] = field(default_factory=dict)
    affinity: Fragment = field(default_factory=dict)
    env: list[Fragment] = field(default_factory=list)
    volumes: list[Fragment] = field(default_factory=list)
    volume_mounts: list[Fragment] = field(default_factory=list)

    @classmethod
    def of(cls, config: Any) -> Self:
        """The settings in a `dsl.TaskConfig`; in none of these, empty ones."""
        given = {name: getattr(config, name, None) or kind() for name, kind in _KINDS.items()}
        resources = {name: amounts for name, amounts in given["resources"].items() if amounts}
        return cls(**given | {"resources": resources})


_KINDS: dict[str, type[Any]] = {
    "resources": dict,
    "tolerations": list,
    "node_selector": dict,
    "affinity": dict,
    "env": list,
    "volumes": list,
    "volume_mounts": list,
}
