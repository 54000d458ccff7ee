"""A dataset file from a web server, copied into the cache under its URL and version, complete or not at all.

Only over TLS, redirects included; plain HTTP is spoken with this machine alone. An address may carry a secret in its query
(a presigned link), so messages show it without.
"""

import http.client
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import DatasetRefused, InvalidRequest, ServiceUnavailable
from softprompt.fetch.cache import cache_folder, draft_beside, keep
from softprompt.fetch.data_files import DataFile, data_name, file_sha256

MAX_DOWNLOAD_BYTES = 64 * 1024**3
TIMEOUT_SECONDS = 30.0
"""Until a connection stands, and until the server sends the next bytes."""

_CHUNK_BYTES = 1024 * 1024
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HINTS = {
    401: "The address needs a login, which is not supported: use a presigned link, or copy the file.",
    403: "The address may not be read; a presigned link may have expired.",
    404: "Check dataset.uri.",
}


def dataset_from_web(url: str) -> tuple[DataFile, ...]:
    """The file at an address; fetched again only when its ETag or date of change says so.

    Raises:
        DatasetRefused: It is not there, may not be read, is too large, or is no data by its name.
        InvalidRequest: Plain HTTP to another machine, or a password in the address.
        ServiceUnavailable: The server does not answer, or stops in the middle.
    """
    _refuse_unsafe(url)
    name = data_name(unquote(urlsplit(url).path).rpartition("/")[2], where=without_secrets(url))
    try:
        with _opener(url).open(urllib.request.Request(url), timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            return (DataFile(name, _kept(answer, url, name) / name),)
    except urllib.error.HTTPError as error:
        raise _refusal(error, url) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unavailable(error, url) from None


def without_secrets(uri: str) -> str:
    """An address without password and query."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _refuse_unsafe(url: str, *, expected: str = "https://") -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        what = "A dataset is fetched over TLS only."
        raise InvalidRequest(what, where=without_secrets(url), expected=expected, actual=f"{parts.scheme}://")
    if "@" in parts.netloc:
        hint = "Use a presigned link, or copy the file."
        raise InvalidRequest("A password in an address would be kept with the run.", where=without_secrets(url), hint=hint)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows to https only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https" and urlsplit(req.full_url).scheme == "https":
            what = "The server sends on to an address without TLS."
            raise InvalidRequest(what, where=without_secrets(req.full_url), expected="https://", actual=without_secrets(newurl))
        _refuse_unsafe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    # A proxy for the world cannot reach a server that listens on this machine only.
    proxies = urllib.request.ProxyHandler({} if urlsplit(url).hostname in _LOOPBACK else None)
    return urllib.request.build_opener(_SafeRedirects, proxies)


def _kept(answer: Any, url: str, name: str) -> Path:
    """The folder with the answer's file: as it was kept, or new."""

    def folder_of(version: str) -> Path:
        return cache_folder() / "datasets" / sha256_hex(canonical_json([url, version]))

    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if version and folder_of(version).is_dir():
        return folder_of(version)
    with draft_beside(folder_of(version)) as draft:
        _save(answer, draft / name, url)
        # A server that names no version is asked every time; equal bytes are kept once.
        target = folder_of(version or file_sha256(draft / name))
        keep(draft, target)
    return target


def _save(answer: Any, path: Path, url: str) -> None:
    expected, num_bytes = answer.headers.get("Content-Length"), 0
    with path.open("wb") as file:
        while chunk := answer.read(_CHUNK_BYTES):
            num_bytes += len(chunk)
            if num_bytes > MAX_DOWNLOAD_BYTES:
                what = "The dataset is larger than is fetched."
                raise DatasetRefused(what, where=without_secrets(url), expected=f"<= {MAX_DOWNLOAD_BYTES} bytes")
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if expected and num_bytes != int(expected):
        raise http.client.IncompleteRead(b"", int(expected) - num_bytes)


def _refusal(error: urllib.error.HTTPError, url: str) -> DatasetRefused | ServiceUnavailable:
    kind = ServiceUnavailable if error.code >= 500 or error.code == 429 else DatasetRefused
    hint = _HINTS.get(error.code, "Try again later." if kind is ServiceUnavailable else "")
    return kind(
        "The server did not give the dataset.", where=without_secrets(url), actual=f"HTTP {error.code} {error.reason}", hint=hint
    )


def _unavailable(error: Exception, url: str) -> ServiceUnavailable:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ServiceUnavailable(
            "The server's certificate is not trusted.",
            where=without_secrets(url),
            actual=reason.verify_message,
            hint="If a company's own authority signed it, name its certificate: export SSL_CERT_FILE=/path/to/authority.pem",
        )
    what = "The server did not give the whole dataset."
    hint = "Check the address and the network, and try again."
    return ServiceUnavailable(what, where=without_secrets(url), actual=str(reason) or type(reason).__name__, hint=hint)
