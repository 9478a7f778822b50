"""One POST to the operator's receiver, and what its answer means. Nothing that the receiver says is followed or kept."""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import time
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import httpx
from modelward_proto import __version__
from modelward_proto.text import escape

from modelward_collector.outputs import address
from modelward_collector.outputs.signature import sign

CONNECT_S = 5.0
WHOLE_S = 15.0
"""A receiver that takes longer is asked again: it may have taken the delivery, and knows it by its id."""

MOST_ANSWER = 16 << 10
SHOWN = 200
LONGEST_WAIT_S = 300.0
"""Of what a receiver may ask for with Retry-After."""

_LATER = frozenset({408, 425, 429})
_ENDPOINT = frozenset({401, 402, 403, 404, 405, 407, 410, 421, 426})


class Verdict(Enum):
    """What became of a try."""

    ACCEPTED = "accepted"
    LATER = "later"
    """Nothing is wrong with this detection: no answer, or the receiver cannot now."""
    ENDPOINT = "endpoint"
    """The receiver is not what the URL or secret says, unless something in front of it dislikes the text."""
    CONTENT = "content"
    """The receiver does not want this body."""


class Answer(NamedTuple):
    """A verdict, what was said in words for an operator, and how long the receiver wants to be left alone."""

    verdict: Verdict
    said: str = ""
    wait_s: float = 0.0


class Webhook:
    """The receiver at one URL."""

    def __init__(self, url: str, secret_file: Path, ca: Path | None, *, loopback: bool) -> None:
        context = ssl.create_default_context()
        if ca is not None:
            context.load_verify_locations(ca)
        self.shown = address.shown(url)
        self._url = url
        self._secret_file = secret_file
        self._secret = address.secret(secret_file)
        self._http = httpx.AsyncClient(
            verify=context, follow_redirects=False, timeout=httpx.Timeout(WHOLE_S, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=2, max_keepalive_connections=1, keepalive_expiry=30),
            # A proxy from the environment never helps on the way to this machine.
            trust_env=not loopback)

    async def post(self, body: bytes, delivery: str) -> Answer:
        """Try once."""
        timestamp = str(int(time.time()))
        headers = {
            "content-type": "application/json", "user-agent": f"modelward/{__version__}", "accept-encoding": "identity",
            "x-modelward-timestamp": timestamp, "x-modelward-delivery": delivery,
            "x-modelward-signature": sign(self._secret, timestamp, body),
        }
        try:
            async with asyncio.timeout(WHOLE_S):
                async with self._http.stream("POST", self._url, content=body, headers=headers) as answer:
                    said = await _beginning(answer)
        except TimeoutError:
            return Answer(Verdict.LATER, f"no answer within {WHOLE_S:.0f} s")
        except httpx.HTTPError as e:
            return Answer(Verdict.LATER, _trouble(e))
        finally:
            self._http.cookies.clear()
        return judge(answer.status_code, said, answer.headers.get("retry-after", ""))

    def renew_secret(self) -> None:
        """Read the secret's file again: it may have been changed because the receiver's was.

        Raises:
            SettingsError: it cannot be used; the old secret stays.
        """
        self._secret = address.secret(self._secret_file)

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()


def judge(status: int, said: str, retry_after: str) -> Answer:
    """What a status means."""
    words = f"it answered {status}" + (f": {said}" if said else "")
    if 200 <= status < 300:
        return Answer(Verdict.ACCEPTED)
    if 300 <= status < 400:
        return Answer(Verdict.ENDPOINT, f"it answered {status}, a redirect; these are not followed: set the address it leads to")
    if status >= 500 or status in _LATER:
        return Answer(Verdict.LATER, words, _wait(retry_after))
    return Answer(Verdict.ENDPOINT if status in _ENDPOINT else Verdict.CONTENT, words)


async def _beginning(answer: httpx.Response) -> str:
    """The start of what it said, inert. Raw bytes: a small compressed answer could be a large one."""
    found = b""
    async for piece in answer.aiter_raw():
        found += piece
        if len(found) > MOST_ANSWER:
            break
    return escape(b" ".join(found[:SHOWN].split()))


def _wait(retry_after: str) -> float:
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10:
        return min(float(retry_after), LONGEST_WAIT_S)
    try:
        until = email.utils.parsedate_to_datetime(retry_after).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, until - time.time()), LONGEST_WAIT_S)


def _trouble(error: httpx.HTTPError) -> str:
    """What went wrong on the way, without the URL."""
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {CONNECT_S:.0f} s"
    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {WHOLE_S:.0f} s"
    # It may repeat what the receiver sent.
    words = escape(str(error).encode("utf-8", "replace")[:SHOWN]) or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        if "certificate" in words.lower():
            return f"its certificate is not trusted ({words}); give its authority with --webhook-ca"
        return f"no connection ({words})"
    return f"the connection broke ({words})"
