"""What serving nodes say that they serve, asked over HTTP: their `/readyz`.

A node names its generation, and a generation is immutable: that number says every digest that the node serves.
"""

import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from softprompt.documents import Document, parse_json
from softprompt.errors import InvalidRequest, VerificationFailed

NODE_TIMEOUT_SECONDS = 5.0
MOST_REPLY_BYTES = 4 * 1024 * 1024
_AT_ONCE = 16


class NodeReport(Document):
    """One node's own word."""

    url: str
    generation: int = 0
    """0: it did not say."""
    stale: bool = False
    """Whether it says that there may be a newer one."""
    ready: bool = False
    num_prompts: int = 0
    num_alarms: int = 0
    """Faults of updates that somebody should look at."""
    error: str = ""
    """Why nothing is known of it."""


def ask_nodes(urls: Sequence[str]) -> tuple[NodeReport, ...]:
    """Every node's report, in order; one that does not answer is a report with an error.

    Raises:
        InvalidRequest: Not an address of HTTP.
    """
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise InvalidRequest("This is not the address of a node.", where=url, expected="http://HOST:PORT")
    with ThreadPoolExecutor(_AT_ONCE) as asking:
        return tuple(asking.map(_ask, urls))


def _ask(url: str) -> NodeReport:
    try:
        status, data = _get(url.rstrip("/") + "/readyz")
        content: Any = parse_json(data, source=url, max_bytes=MOST_REPLY_BYTES)
        prompts = content["prompts"]
        return NodeReport(
            url=url,
            generation=int(content["generation"]),
            stale=bool(content["stale"]),
            ready=status == 200,
            num_prompts=prompts if isinstance(prompts, int) else len(prompts),
            num_alarms=int(content.get("alarms", 0)),
        )
    except (OSError, VerificationFailed) as error:
        return NodeReport(url=url, error=" ".join(str(getattr(error, "reason", error)).split()))
    except (KeyError, TypeError, ValueError):
        return NodeReport(url=url, error="its answer is not a node's")


def _get(url: str) -> tuple[int, bytes]:
    """Status and body; 503 is an answer, too. Only http and https get here."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=NODE_TIMEOUT_SECONDS) as reply:
            return int(reply.status), bytes(reply.read(MOST_REPLY_BYTES + 1))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, bytes(error.read(MOST_REPLY_BYTES + 1))
