"""One way to make an S3 client, and one way to say why S3 did not do what was asked.

Used by the release store and by whatever else reads `s3://` (base models, datasets). boto3 is imported when a client
is made.
"""

import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from softprompt.errors import InvalidRequest, StoreUnavailable

CONNECT_TIMEOUT_SECONDS = 3.0
READ_TIMEOUT_SECONDS = 20.0

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HINTS = {
    "AccessDenied": "Ask for the right to do this on this bucket, or use other keys.",
    "InvalidAccessKeyId": "Check AWS_ACCESS_KEY_ID.",
    "SignatureDoesNotMatch": "Check AWS_SECRET_ACCESS_KEY.",
    "NoSuchBucket": "Create the bucket, or name another one.",
    "NoCredentialsError": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another source of AWS credentials.",
    "EndpointConnectionError": "Is the server running? Check AWS_ENDPOINT_URL_S3 and the network.",
    "ConnectTimeoutError": "Is the server reachable from here? Check AWS_ENDPOINT_URL_S3 and the network.",
    "NotImplemented": "Use an S3 server that knows conditional writes (If-None-Match on PutObject).",
}


@dataclass(frozen=True, kw_only=True)
class S3Access:
    """Where S3 is and with which keys; what is empty comes from the usual AWS settings (environment, profile, role)."""

    endpoint_url: str = ""
    """Such as `http://127.0.0.1:9000`; empty: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or AWS itself."""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)


def s3_client(
    access: S3Access | None = None,
    *,
    connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
    read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
) -> Any:
    """A boto3 S3 client that never repeats a request by itself; threads may share it.

    boto3's own retries report 412 for a conditional write that succeeded but whose reply was lost: callers retry.

    Args:
        access: Endpoint and keys; None: the usual AWS settings.
        connect_timeout_seconds: Until a connection stands.
        read_timeout_seconds: Until the server sends the next bytes.

    Raises:
        StoreUnavailable: The settings name something that cannot be, such as an endpoint that is no URL.
    """
    import boto3.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    access = access or S3Access()
    endpoint = access.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    config = Config(
        connect_timeout=connect_timeout_seconds,
        read_timeout=read_timeout_seconds,
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": "path" if endpoint else "auto"},
        # A proxy for the world cannot reach a server that listens on this machine only.
        proxies={} if endpoint and urlsplit(endpoint).hostname in _LOOPBACK else None,
    )
    try:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=access.region or None,
            aws_access_key_id=access.access_key_id or None,
            aws_secret_access_key=access.secret_access_key or None,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreUnavailable(
            "The S3 settings do not work.", where=endpoint or "AWS", actual=str(error), hint="Check the AWS_* settings."
        ) from None


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/any/key` as (bucket, key); the key may be empty and never begins or ends with a slash.

    Raises:
        InvalidRequest: It is not an S3 URI.
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
        raise InvalidRequest("This is not an S3 URI.", where=uri, expected="s3://bucket or s3://bucket/prefix")
    return parts.netloc, parts.path.strip("/")


def error_code(error: Exception) -> str:
    """The S3 error code (`NoSuchKey`), the status of a reply without one (`404`), or the exception's name."""
    response: Any = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return str(code or http_status(error) or type(error).__name__)


def http_status(error: Exception) -> int:
    """The HTTP status of the reply, or 0 if there was none."""
    response: Any = getattr(error, "response", None)
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) if isinstance(response, dict) else 0


def store_unavailable(error: Exception, *, doing: str, where: str) -> StoreUnavailable:
    """The error that tells a person what S3 refused and what to do about it.

    Args:
        error: What botocore raised.
        doing: The operation, as in "read an object".
        where: Endpoint, bucket and key.
    """
    code = "AccessDenied" if http_status(error) == 403 and error_code(error) == "403" else error_code(error)
    hint = _HINTS.get(code) or ("Try again; the server has a problem." if http_status(error) >= 500 else "")
    return StoreUnavailable(f"The object store did not {doing}.", where=where, actual=f"{code}: {error}", hint=hint)


def failures() -> tuple[type[Exception], ...]:
    """Everything that botocore raises when a request fails; what a spoilt reply leads to is of no common base.

    A reply that is no XML is a ResponseParserError; one with a time or number that cannot be, a plain ValueError.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ClientError, ResponseParserError, ValueError


def never_happened(error: Exception) -> bool:
    """Whether a write that failed so can be ruled out: it was never sent, or the server refused it. In doubt, no."""
    from botocore import exceptions as known

    status = http_status(error)
    if status:
        return status == 501 or (300 <= status < 500 and status not in (408, 409, 429))
    not_connected = (known.EndpointConnectionError, known.ConnectTimeoutError, known.ProxyConnectionError)
    no_credentials = (known.NoCredentialsError, known.PartialCredentialsError, known.CredentialRetrievalError)
    return isinstance(error, (*not_connected, *no_credentials, known.ParamValidationError))


def may_pass(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError
    from botocore.parsers import ResponseParserError

    status = http_status(error)
    if status:
        return status >= 500 or status in (408, 409, 429)
    spoilt_reply = (IncompleteReadError, FlexibleChecksumError, ResponseParserError, ValueError)
    return isinstance(error, (HTTPClientError, *spoilt_reply))
