"""One serving node on this machine: a base model, a channel, an HTTP port."""

from softprompt.base_model import load_base_model
from softprompt.deployment import channel_reader
from softprompt.errors import InvalidRequest
from softprompt.fetch import fetch_base
from softprompt.settings import Settings


def serve_channel(settings: Settings, channel: str, base_uri: str, host: str, port: int) -> None:
    """Serve until interrupted.

    Args:
        settings: Store, trust root, state.
        channel: To follow.
        base_uri: The base model that runs here.
        host: Address to listen on; whoever reaches it may ask, so anything but loopback is for a pod behind its policies.
        port: On that address.

    Raises:
        InvalidRequest: The `serve` extra is not installed.
    """
    try:
        import uvicorn

        from softprompt.serving.app import create_app
    except ImportError as error:
        raise InvalidRequest(
            "Serving needs packages that are not installed.", actual=str(error), hint="pip install 'softprompt[serve]'"
        ) from None
    from softprompt.serving.bank import PromptBank
    from softprompt.serving.follower import Follower
    from softprompt.serving.scheduler import BatchEngine

    base = load_base_model(fetch_base(base_uri))
    follower = Follower(channel_reader(settings, channel, base_fingerprint=base.fingerprint), base.fingerprint)
    uvicorn.run(create_app(follower, PromptBank(base), BatchEngine(base)), host=host, port=port, log_level="warning")
