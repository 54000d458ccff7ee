"""A published prompt out of a channel's store, to start another one from."""

import re
from pathlib import Path

from softprompt.errors import InvalidRecipe
from softprompt.fetch.cache import cache_folder, draft_beside, keep
from softprompt.release.blobs import Blobs
from softprompt.release.layout import blob_key
from softprompt.release.store import open_store

_PUBLISHED = re.compile(rf"(?P<store>s3://.+)/{re.escape(blob_key(''))}(?P<digest>[0-9a-f]{{64}})")


def published_uri(store: str, digest: str) -> str:
    """The URI of a published prompt: of its manifest, whose sha256 is its digest."""
    return f"{store.rstrip('/')}/{blob_key(digest)}"


def prompt_from_store(uri: str) -> tuple[Path, str]:
    """(directory, digest) of a published prompt, verified and kept in the cache.

    Raises:
        InvalidRecipe: The URI names something else.
        StoreUnavailable: The store does not answer.
        VerificationFailed: It does not have the prompt, or has something else under its name.
    """
    found = _PUBLISHED.fullmatch(uri)
    if not found:
        expected = published_uri("s3://BUCKET", "DIGEST")
        raise InvalidRecipe("No published prompt lies there.", where=uri, expected=expected, hint="Check prompt.init.uri.")
    folder = cache_folder() / "prompts" / found["digest"]
    if not folder.is_dir():
        with draft_beside(folder) as draft:
            Blobs(open_store(found["store"])).prompt(found["digest"]).write(draft / "prompt")
            keep(draft / "prompt", folder)
    return folder, found["digest"]
