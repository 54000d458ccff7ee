"""Logs as one JSON document a line, or as text where a person looks on. What clients send is never in them."""

import json
import logging
import sys
import time
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """One JSON document a line: time, level, logger, message, and whatever `extra` holds."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        document: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= extras(record)
        if record.exc_info and record.exc_info[0]:
            document["fault"] = record.exc_info[0].__name__
        return json.dumps(document, default=str, ensure_ascii=False)


class Readable(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        facts = " ".join(f"{key}={value}" for key, value in extras(record).items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{clock} {record.levelname.lower():7} {record.getMessage()} {facts}".rstrip()


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What a record has beyond every record's; an underscore marks what a library hangs on all of them, such as Ray's clock."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}


def log_to_standard_error(*, as_json: bool) -> None:
    """Send our own logs and the HTTP server's to standard error.

    Args:
        as_json: For a log collector; else for a person.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else Readable())
    for name in ("softprompt", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
