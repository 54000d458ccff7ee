"""What training adds to the memory of inference, counted: gradients and optimiser state of what is trained, and nothing else.

Activations are not in it: they follow the batch, and `tests/bench/train_step.py` measures them.
"""

from collections.abc import Sequence

from softprompt.recipe.training import Optimiser

BYTES_OF_MOMENTS = 2 * 4
"""Adam's mean and square of a gradient (Kingma & Ba 2015), float32 whatever the number's own format."""


def training_state_bytes(num_trained: int, gradient_bytes: int = 4) -> int:
    """Gradient and Adam's two moments of numbers that are trained.

    Args:
        num_trained: How many numbers.
        gradient_bytes: Of one gradient: 4 for float32, as prompts have, 2 for bfloat16.
    """
    return num_trained * (gradient_bytes + BYTES_OF_MOMENTS)


def basis_numbers(shape: Sequence[int], optimiser: Optimiser) -> int:
    """Numbers that an optimiser keeps for a prompt of this shape beside moments: covariances, bases and gains of heads."""
    if len(shape) != 5 or not optimiser.startswith("soap"):
        return 0
    layers, pair, _, heads, size = shape
    gains = size if optimiser == "soap_whitened" else 0
    return layers * pair * heads * (2 * size**2 + gains)


def share_of_full_fine_tuning(
    num_trained: int, base_parameters: int, base_bytes: int = 4, *, num_basis_numbers: int = 0
) -> float:
    """A prompt's training state over that of training the whole base.

    Args:
        num_trained: Numbers of one candidate: `P * H` (shallow) or `L * 2 * P * N * D` (deep), and those of a network.
        base_parameters: Parameters of the base, tied ones once.
        base_bytes: Of one parameter, and so of its gradient: 4 for float32, 2 for bfloat16.
        num_basis_numbers: What the prompt's optimiser keeps beside Adam's moments, float32.

    Returns:
        Between 0 and 1 for a prompt smaller than its base; 0.01 is one per cent.

    Raises:
        ValueError: The base has no parameters.
    """
    if base_parameters < 1:
        raise ValueError(f"a base model has parameters, got {base_parameters}")
    return (training_state_bytes(num_trained) + 4 * num_basis_numbers) / training_state_bytes(base_parameters, base_bytes)
