"""What of a causal model's decoder layers a training step computes, and what it computes twice to save memory.

Nothing here knows an architecture: feed-forward blocks work on each position alone, and every layer is a module that is called.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from softprompt.base_model import FrozenBase


def decoder_layers(base: FrozenBase) -> list[nn.Module]:
    """A causal model's layers in order; empty where they are not one list, and then nothing is saved."""
    count = base.model.config.get_text_config(decoder=True).num_hidden_layers
    lists = (module for module in base.model.base_model.modules() if isinstance(module, nn.ModuleList))
    return next((list(layers) for layers in lists if len(layers) == count), [])


@contextmanager
def feed_forward_only_at(layers: list[nn.Module], needed: Tensor) -> Iterator[None]:
    """Compute the last layer's feed-forward block at some positions only: nobody attends to what it gives.

    Args:
        layers: All layers. A last one without a block of its own (OPT) is computed whole.
        needed: `[B, T]` bool, the positions whose last hidden state is read; the others hold no meaning afterwards.
    """
    block = getattr(layers[-1], "mlp", None) if layers else None
    if not isinstance(block, nn.Module):
        yield
        return
    where = needed.nonzero(as_tuple=True)
    before = block.register_forward_pre_hook(lambda _, inputs: (inputs[0][where][None], *inputs[1:]))
    after = block.register_forward_hook(lambda _, __, output: _put_back(output, where, needed))
    try:
        yield
    finally:
        before.remove()
        after.remove()


@contextmanager
def checkpointed(layers: list[nn.Module]) -> Iterator[None]:
    """Keep only each layer's input for the backward pass and compute the rest again (Chen et al. 2016).

    A layer is run twice, so whatever it is called with must not change by that: its cache must not grow. The last layer is
    left alone, since the backward pass begins with it and needs all of it at once.
    """
    with ExitStack() as stack:
        for layer in layers[:-1]:
            stack.callback(layer.__dict__.pop, "forward")
            layer.__dict__["forward"] = partial(_run_again_for_backward, layer.forward)
        yield


def _put_back(output: Tensor, where: tuple[Tensor, ...], needed: Tensor) -> Tensor:
    """`[1, M, H]` to `[B, T, H]`, zero elsewhere."""
    return output.new_zeros(*needed.shape, output.shape[-1]).index_put(where, output[0])


def _run_again_for_backward(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # Non-reentrant: gradients also reach what is no argument, the prompt's keys and values in the cache.
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
