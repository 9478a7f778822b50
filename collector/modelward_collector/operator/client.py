"""The collector's HTTP API, for the command.

CollectorError
├── Unreachable      nobody answers at the address
├── Refused          it answered, and will not do this (token, gate)
│   └── TooMuch      the answer would go over a limit
└── BadRequest       a filter or value is wrong
"""

from __future__ import annotations

import ipaddress
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from modelward_collector.explain.document import Explanation


class CollectorError(Exception):
    """A request gave no result; the message is a sentence for the person who asked."""


class Unreachable(CollectorError):
    """Nobody answers at the address."""


class Refused(CollectorError):
    """The collector answered with an error."""


class TooMuch(Refused):
    """The answer would go over a limit of the collector."""


class BadRequest(CollectorError):
    """The collector does not know a filter, or its value cannot be right."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A result. ``complete`` is false when there was more than the limit."""

    columns: list[str]
    rows: list[dict[str, Any]]
    complete: bool


class Client:
    """One collector."""

    def __init__(self, url: str, token: str | None = None, ca: Path | None = None) -> None:
        """``ca``: certificates to trust beside the system's.

        Raises:
            BadRequest: the URL is none, or would show the token to the network; or the token cannot be sent.
        """
        self.url = url.rstrip("/")
        try:
            address = httpx.URL(self.url) if "://" in url else httpx.URL()
        except httpx.InvalidURL as e:
            raise BadRequest(f"--url: {e}: '{url}'.") from e
        if address.scheme not in ("http", "https") or not address.host:
            raise BadRequest(f"--url: http://HOST:PORT or https://HOST:PORT is wanted, not '{url}'.")
        loopback = _is_loopback(address.host)
        if token and address.scheme == "http" and not loopback:
            raise BadRequest(
                f"--url: the token would cross the network in the clear; use https, not '{url}'."
            )
        if token and not (token.isascii() and token.isprintable()):
            # Said here, because the error of the HTTP library would show it.
            raise BadRequest("--token-file: one line of printable ASCII is wanted.")
        context = ssl.create_default_context()
        if ca:
            try:
                context.load_verify_locations(ca)
            except (OSError, ssl.SSLError) as e:
                raise BadRequest(f"--ca: {ca} cannot be read as certificates: {e}.") from e
        self._token = token
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # A proxy from the environment never helps on the way to this machine.
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            verify=context,
            timeout=httpx.Timeout(60.0, connect=5.0),
            trust_env=not loopback,
        )

    def rows(self, name: str, filters: Mapping[str, str]) -> Rows:
        """One of the lists.

        Raises:
            CollectorError: as the tree above says.
        """
        answer = self._request("GET", f"/api/v1/{name}", params=dict(filters))
        return _rows(answer)

    def explanation(self, detection: str) -> Explanation:
        """A detection in words, by its id or the start of it.

        Raises:
            CollectorError: as the tree above says.
        """
        path = f"/api/v1/detections/{quote(detection, safe='')}/explain"
        try:
            return Explanation.from_json(self.document("GET", path))
        except (KeyError, TypeError, AttributeError) as e:
            raise Refused(f"{self.url}{path} did not answer as a Modelward collector does.") from e

    def begin_test_alert(self, host: str) -> dict[str, Any]:
        """Have the agents of a host provoke a harmless effect: ``id``, ``sent`` (to which agents, when), ``outputs`` (names).

        Raises:
            CollectorError: as the tree above says; the host is unknown, or no agent of it is connected.
        """
        return _document(self._request("POST", f"/api/v1/hosts/{quote(host, safe='')}/test-alert", json={}))

    def test_alert(self, host: str, id: str) -> dict[str, Any]:
        """How far that came: ``answers``, ``event``, ``detection``, ``outputs``.

        Raises:
            CollectorError: as the tree above says.
        """
        return _document(self._request("GET", f"/api/v1/hosts/{quote(host, safe='')}/test-alert/{id}"))

    def history(self, parameters: Mapping[str, str]) -> bytes:
        """One page of stored events as an Arrow stream.

        Raises:
            CollectorError: as the tree above says; TooMuch when a page of fewer rows may go.
        """
        return self._request("GET", "/api/v1/history", params=dict(parameters)).content

    def document(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        """The JSON object that the collector answers.

        Raises:
            CollectorError: as the tree above says.
        """
        return _document(self._request(method, path, **given))

    def query(self, sql: str, form: str | None) -> Rows | bytes:
        """The rows of a person's SQL, or with a format what the engine writes in it.

        Raises:
            CollectorError: as the tree above says.
        """
        answer = self._request(
            "POST", "/api/v1/query", params={"format": form} if form else {}, content=sql.encode()
        )
        if form or "json" not in answer.headers.get("content-type", ""):
            return answer.content
        return _rows(answer)

    def tail(self, *, events: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """Messages of the live stream, (kind, data), until the connection ends.

        Raises:
            CollectorError: as the tree above says.
        """
        timeout = httpx.Timeout(30.0, connect=5.0)
        try:
            with self._http.stream(
                "GET", "/api/v1/tail", params={"events": "1"} if events else {}, timeout=timeout
            ) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise self._error(answer)
                kind = ""
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        kind = line[7:]
                    elif line.startswith("data: "):
                        yield kind, json.loads(line[6:])
        except httpx.HTTPError as e:
            raise self._unreachable(e) from e

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _request(self, method: str, path: str, **given: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **given)
        except httpx.HTTPError as e:
            raise self._unreachable(e) from e
        if answer.status_code not in (200, 201):
            raise self._error(answer)
        return answer

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        if isinstance(error, httpx.ConnectError) and "certificate" in str(error).lower():
            return Unreachable(
                f"The certificate of {self.url} is not trusted ({error}); give its CA with --ca."
            )
        if "WRONG_VERSION_NUMBER" in str(error):
            return Unreachable(f"What answers at {self.url} does not speak TLS: is it http:// there?")
        if isinstance(error, httpx.RemoteProtocolError):
            return Unreachable(
                f"What answers at {self.url} does not speak {self.url.partition(':')[0]} ({error}). Give the collector's "
                "--http address, with https:// when it has --http-tls-cert."
            )
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(f"The collector at {self.url} does not answer in time.")
        return Unreachable(
            f"No collector answers at {self.url} ({error or type(error).__name__}). "
            "Is 'modelward-collector run' running there? Give its address with --url or MODELWARD_URL."
        )

    def _error(self, answer: httpx.Response) -> CollectorError:
        try:
            sentence = str(answer.json()["error"])
        except (ValueError, KeyError, TypeError):
            sentence = f"{self.url} answered {answer.status_code}; that is no Modelward collector."
        if answer.status_code == 401:
            if self._token:
                return Refused(f"{self.url} does not know the token that --token-file gave.")
            return Refused(f"{self.url} wants a token: give the file that holds it with --token-file.")
        if answer.status_code == 422:
            return TooMuch(sentence)
        if answer.status_code == 400 and answer.request.method == "GET":
            return BadRequest(sentence)
        return Refused(sentence)


def _rows(answer: httpx.Response) -> Rows:
    try:
        document = answer.json()
        return Rows(document["columns"], document["rows"], document.get("complete", True))
    except (ValueError, KeyError, TypeError) as e:
        raise Refused(f"{answer.url} did not answer as a Modelward collector does.") from e


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError as e:
        raise Refused(f"{answer.url} did not answer as a Modelward collector does.") from e
    if not isinstance(document, dict):
        raise Refused(f"{answer.url} did not answer as a Modelward collector does.")
    return document


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
