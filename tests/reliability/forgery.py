"""Generations as an attacker or a broken publisher would make them."""

from typing import Any

from securesystemslib.signer import CryptoSigner

from softprompt.documents import sha256_hex
from softprompt.release import envelope
from softprompt.release.layout import LIFE_SECONDS, generation_key
from softprompt.release.statement import ChannelState, Generation, Served, Share, format_time, to_statement
from tests.reliability.world import BASE, CHANNEL, World, approval, chain, prompt


def state_of(*seeds: int, base: str = BASE, listed_base: str = BASE, name: str = "greeting") -> ChannelState:
    """A state in which a name means some prompts."""
    files = [prompt(seed, base) for seed in seeds]
    shares = tuple(Share(prompt=file.digest) for file in files)
    return ChannelState(
        prompts={name: Served(bases={listed_base: shares})},
        approvals={file.digest: approval(file) for file in files},
        numerics=("float32",),
    )


def next_generation(world: World, **changes: Any) -> Generation:
    """The generation after the newest one, honest but for the changes."""
    head = chain(world)[0]
    given = {
        "channel": CHANNEL,
        "channel_id": world.trust.channels[CHANNEL].id,
        "generation": head["generation"] + 1,
        "state": world.log().read(head["generation"]).generation.state,
        "publish_id": "e" * 32,
        "created": format_time(world.now),
        "expires": format_time(world.now + LIFE_SECONDS),
        "previous": sha256_hex(world.envelopes()[head["generation"]]),
    }
    return Generation(**(given | changes))


def signed(world: World, generation: Generation, signer: CryptoSigner | None = None) -> bytes:
    """Its envelope; by the channel's own key unless another one is given."""
    return envelope.sign(to_statement(generation), signer or world.signers[0])


def put_next(world: World, data: bytes) -> int:
    """Lay bytes under the next number; the number."""
    number = chain(world)[0]["generation"] + 1
    world.store.put(generation_key(CHANNEL, number), data)
    return number
