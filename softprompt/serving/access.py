"""Who may ask which prompt: bearer tokens from a file that holds their sha256, never the tokens.

    schema_version: 1
    tokens:
      - name: billing            # what logs call its holder
        sha256: "9f86d081..."    # printf %s "$TOKEN" | sha256sum
        prompts: ["refunds", "invoice-*"]
      - name: platform
        sha256: "60303ae2..."
        prompts: ["*"]
        operator: true           # may read /metrics and the node's alarms

sha256 without salt is right for what a machine drew (32 random bytes), and only for that. A prompt that a token may not call
does not exist for it (404, like an unknown name): the names of prompts say what a company is working on, and a 403 would confirm
them to whoever guesses.
"""

import hashlib
import hmac
import logging
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.errors import InvalidRequest, SoftpromptError
from softprompt.yaml_reader import read_yaml

_log = logging.getLogger(__name__)

Pattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*?._:/-]{1,200}$")]


class Token(Document):
    """One bearer token and what its holder may do."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """What logs call its holder."""
    sha256: Sha256
    """Of the token's characters."""
    prompts: tuple[Pattern, ...]
    """Names of prompts, `*` and `?` allowed. The bare base has to be named letter by letter: no pattern means it."""
    operator: bool = False
    """Whether it may read /metrics and the node's alarms."""


class TokenFile(Document):
    """All tokens of a node."""

    schema_version: Literal[1]
    tokens: tuple[Token, ...] = Field(max_length=10_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for kind, found in (("name", [t.name for t in self.tokens]), ("sha256", [t.sha256 for t in self.tokens])):
            if twice := next((value for value in found if found.count(value) > 1), None):
                raise ValueError(f"tokens: two have the {kind} {twice}")
        return self


class Caller:
    """Whoever sent a request, and what that allows.

    Args:
        token: Theirs; None: this node asks for no tokens.
        base_name: What the bare base is called here; empty: it cannot be asked.
    """

    def __init__(self, token: Token | None, base_name: str = "") -> None:
        self._token, self._base_name = token, base_name

    @property
    def name(self) -> str:
        """For logs; empty where no token is asked for."""
        return self._token.name if self._token else ""

    @property
    def is_operator(self) -> bool:
        """Whether they may read metrics and alarms."""
        return self._token is None or self._token.operator

    def may_ask(self, name: str) -> bool:
        """Whether they may ask a prompt, or the bare base, by this name."""
        if self._token is None:
            return True
        if name == self._base_name:
            return name in self._token.prompts
        return any(fnmatchcase(name, pattern) for pattern in self._token.prompts)


class Access:
    """Finds the caller of a request; reads the file again when it has changed.

    A file that went wrong while the node runs is said in the log and in `is_broken`, and the last good one stays: an update that
    cannot be read must not lock everybody out. To take a token away, write a file that reads.

    Args:
        file: Of tokens; None: everybody may ask everything.
        base_name: What the bare base is called here.

    Raises:
        InvalidRequest: The file is not there or is wrong.
    """

    def __init__(self, file: Path | None, base_name: str = "") -> None:
        self._file, self._base_name = file, base_name
        self._seen, self._tokens = self._stamp(), self._read() if file else ()
        self.is_broken = False

    @property
    def asks_for_tokens(self) -> bool:
        """Whether there is a file of tokens."""
        return self._file is not None

    def caller(self, authorization: str | None) -> Caller | None:
        """Who sent an `Authorization` header; None: nobody we know.

        The token is compared with every one of the file in constant time, so the time taken says nothing about either.
        """
        if self._file is None:
            return Caller(None, self._base_name)
        self._reload()
        scheme, _, given = (authorization or "").partition(" ")
        digest = hashlib.sha256(given.strip().encode("utf-8", "surrogateescape")).hexdigest()
        matches = [token for token in self._tokens if hmac.compare_digest(token.sha256, digest)]
        return Caller(matches[0], self._base_name) if matches and scheme.lower() == "bearer" else None

    def _reload(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._tokens, self.is_broken = self._read(), False
        except SoftpromptError as error:
            self.is_broken = True
            _log.error("the file of tokens changed and cannot be read; the tokens before stay", extra={"fault": error.what})
            return
        _log.info("the file of tokens changed", extra={"tokens": len(self._tokens)})

    def _read(self) -> tuple[Token, ...]:
        assert self._file is not None, "called only where there is a file"
        try:
            text = self._file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(
                "The file of tokens cannot be read.", where=str(self._file), actual=str(error), hint="See docs/serving.md."
            ) from None
        return read_yaml(text, TokenFile, source=str(self._file)).tokens

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._file.stat() if self._file else None
        except OSError:
            return ()
        return (found.st_ino, found.st_size, found.st_mtime_ns) if found else ()
