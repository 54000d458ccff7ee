"""Numerics: in which number formats a base model is loaded and computed. The only list of their names.

Evidence holds for the numerics it was measured with, and a channel lists those that its fleet uses. How a format is brought about
is `base_model`'s business.
"""

from dataclasses import dataclass
from typing import Literal

from softprompt.errors import InvalidRequest

Numerics = Literal["float32", "bfloat16", "float16", "int8"]
ComputeFormat = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class NumberFormat:
    """What a name means."""

    compute: ComputeFormat
    """Of embeddings, output head, activations, keys and values, and of weights that are not quantised; torch's name."""
    quantised: Literal["", "int8"] = ""
    """What the weights of linear layers are held as; empty: as everything else. `int8`: 8-bit integers, symmetric, with one
    float32 factor for each output, rounded to nearest when the base is loaded."""

    @property
    def compute_bytes(self) -> int:
        """Bytes of a number that is not quantised."""
        return 4 if self.compute == "float32" else 2


FORMATS: dict[Numerics, NumberFormat] = {
    "float32": NumberFormat("float32"),
    "bfloat16": NumberFormat("bfloat16"),
    "float16": NumberFormat("float16"),
    "int8": NumberFormat("bfloat16", "int8"),
}
NUMERICS: tuple[Numerics, ...] = tuple(FORMATS)
UNQUANTISED: tuple[Numerics, ...] = tuple(name for name in NUMERICS if not FORMATS[name].quantised)


def parse_numerics(name: str, where: str) -> Numerics:
    """The numerics of a name.

    Args:
        name: As someone wrote it.
        where: What they wrote it for, such as `--dtype`.

    Raises:
        InvalidRequest: There are none of this name.
    """
    for known in NUMERICS:
        if known == name:
            return known
    raise InvalidRequest("There is no such number format.", where=where, expected=" or ".join(NUMERICS), actual=name)
