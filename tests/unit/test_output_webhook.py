"""The webhook alone: what may be set, what goes into a body, what an answer means, and that only the right receiver is told."""

from __future__ import annotations

import asyncio
import json
import re
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from modelward_collector.outputs import address, payload, webhook
from modelward_collector.outputs.signature import sign
from modelward_collector.outputs.webhook import Answer, Verdict, Webhook, judge
from modelward_collector.settings import CollectorSettings
from modelward_proto.settings import SettingsError

from tests.certificates import Authority
from tests.webhook_receiver import SECRET, Receiver, listening, secret_file

ROW: dict[str, Any] = {
    "detection_id": "ab" * 16, "time": "2026-11-25T10:31:45.464188302Z", "rule_name": "shell_in_load", "severity": "critical",
    "sentence": "x", "host_name": "gpu-17", "host_labels": ["env=prod", "note=a=b"], "event_name": "exec", "reason": "r",
    "process_command_line": "sh -c id", "silenced_by": "", "stored_ns": 1, "model_digest": "9f86", "process_chain": "a > b",
    "file_path": "/srv/secret-name", "workload_id": "w", "model_id": "evil", "model_path": "/srv/evil",
}


@pytest.mark.parametrize("url", [
    "http://alerts.example/x", "ftp://127.0.0.1/", "alerts.example", "", "https://", "https://user:secret@alerts.example/",
    "https://alerts.example/#part", "https://alerts.example/a b", "https://alerts.example:99999/", "https://alerts.example:0/",
    "https://alerts.ex\u0430mple/", "https://alerts.example/\r\nx: y", "http://127.0.0.1.evil.example/", "http://localhost.evil/",
])
def test_an_unsafe_address_is_refused_without_being_repeated(url: str, tmp_path: Path) -> None:
    settings = CollectorSettings(data=tmp_path, webhook_url=url, webhook_secret_file=secret_file(tmp_path))
    with pytest.raises(SettingsError, match="--webhook-url") as refusal:
        settings.check()
    assert "secret@" not in str(refusal.value)


@pytest.mark.parametrize("url", ["https://alerts.example/x?token=1", "http://127.0.0.1:8080/", "http://localhost/", "http://[::1]:80/"])
def test_https_and_this_machine_are_taken(url: str, tmp_path: Path) -> None:
    CollectorSettings(data=tmp_path, webhook_url=url, webhook_secret_file=secret_file(tmp_path)).check()


@pytest.mark.parametrize(("given", "named"), [
    ({"webhook_url": "https://a.example/"}, "--webhook-secret-file"),
    ({"webhook_secret_file": Path("/nosuch")}, "--webhook-url"),
    ({"webhook_url": "https://a.example/", "webhook_secret_file": Path("/nosuch")}, "/nosuch"),
    ({"webhook_url": "https://a.example/", "webhook_secret_file": Path("/dev/null")}, "at least 16"),
    ({"webhook_min_severity": "bad"}, "--webhook-min-severity"),
])
def test_what_is_missing_or_wrong_is_named(given: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=named):
        CollectorSettings(data=tmp_path, **given).check()


def test_an_authority_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    with pytest.raises(SettingsError, match="--webhook-ca"):
        CollectorSettings(data=tmp_path, webhook_url="https://a.example/", webhook_secret_file=secret_file(tmp_path),
                          webhook_ca=tmp_path / "ca").check()


def test_what_is_shown_of_an_address_holds_no_token() -> None:
    assert address.shown("https://alerts.example:8443/hook/SECRET?token=SECRET") == "https://alerts.example:8443"


def test_a_body_holds_the_whole_row_and_labels_by_name() -> None:
    made = json.loads(payload.body(ROW))
    assert made["detection"] == {k: v for k, v in ROW.items() if k not in ("silenced_by", "stored_ns")} | {
        "host_labels": {"env": "prod", "note": "a=b"}}
    assert not made["test"]
    assert json.loads(payload.body(ROW | {"event_name": "canary"}))["test"]


def test_the_reduced_form_holds_nothing_that_a_workload_wrote() -> None:
    hostile = {k: v for k, v in ROW.items() if k not in payload.OURS}
    made = json.loads(payload.reduced(ROW))
    assert made["reduced"]
    assert not set(made["detection"]) & set(hostile)


def test_long_texts_are_cut_and_named_and_a_large_body_is_reduced() -> None:
    made = json.loads(payload.body(ROW | {"process_command_line": "ü" * 10_000}))
    assert made["truncated"] == ["process_command_line"]
    assert len(made["detection"]["process_command_line"]) == payload.MOST_TEXT
    large = payload.body(ROW | {f"text_{n}": "\U0001f600" * 8000 for n in range(40)})
    assert len(large) < payload.MOST_BODY
    assert json.loads(large)["reduced"]


@pytest.mark.parametrize(("status", "verdict"), [
    (200, Verdict.ACCEPTED), (204, Verdict.ACCEPTED), (301, Verdict.ENDPOINT), (308, Verdict.ENDPOINT), (400, Verdict.CONTENT),
    (401, Verdict.ENDPOINT), (403, Verdict.ENDPOINT), (404, Verdict.ENDPOINT), (408, Verdict.LATER), (413, Verdict.CONTENT),
    (422, Verdict.CONTENT), (429, Verdict.LATER), (500, Verdict.LATER), (503, Verdict.LATER), (599, Verdict.LATER),
])
def test_what_a_status_means(status: int, verdict: Verdict) -> None:
    assert judge(status, "", "").verdict is verdict


@pytest.mark.parametrize(("said", "least", "most"), [
    ("7", 7, 7), ("999999", 300, 300), ("", 0, 0), ("-5", 0, 0), ("9" * 50, 0, 0), ("soon", 0, 0), ("\u0663", 0, 0),
    # Named: a test whose name holds the time is another one in each process that collects it.
    pytest.param(formatdate(time.time() + 5000, usegmt=True), 300, 300, id="a date to come"),
    pytest.param(formatdate(time.time() - 60, usegmt=True), 0, 0, id="a date that is past"),
    ("Fri, 31 Dec 99999 23:59:59 GMT", 0, 0),
])
def test_how_long_a_receiver_may_ask_to_be_left_alone(said: str, least: float, most: float) -> None:
    assert least <= judge(503, "", said).wait_s <= most


def test_the_signature_is_plain_hmac_sha256() -> None:
    # echo -n '1795602706.{"a":1}' | openssl dgst -sha256 -hmac 'a secret of the tests, long enough'
    assert sign(b"a secret of the tests, long enough", "1795602706", b'{"a":1}') == (
        "v1=510821e6efca1ac3566c1423a810b9f344ef349623c36a88abeda5f372d3f6c7")


def post(url: str, folder: Path, ca: Path | None = None) -> Answer:
    async def once() -> Answer:
        made = Webhook(url, secret_file(folder), ca, loopback=True)
        try:
            return await made.post(payload.body(ROW), "ab" * 16)
        finally:
            await made.close()

    return asyncio.run(once())


def test_the_check_in_the_documentation_takes_ours_and_nothing_else(tmp_path: Path) -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs/outputs.md").read_text(), re.DOTALL)
    documented: dict[str, Any] = {}
    exec(snippet, documented)
    check = documented["is_from_modelward"]
    with listening(Receiver()) as receiver:
        post(receiver.url, tmp_path)
    [sent] = receiver.taken
    assert check(SECRET, sent.headers, sent.body)
    assert not check(b"another secret of the tests", sent.headers, sent.body)
    assert not check(SECRET, sent.headers, sent.body + b" ")
    assert not check(SECRET, sent.headers | {"x-modelward-timestamp": "1795602706"}, sent.body)


def test_only_a_receiver_whose_certificate_is_trusted_is_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with listening(Receiver(), authority.sign("receiver", "DNS:localhost")) as receiver:
        assert post(receiver.url, tmp_path, authority.certificate).verdict is Verdict.ACCEPTED
        stranger = post(receiver.url, tmp_path)
        assert stranger.verdict is Verdict.LATER
        assert "--webhook-ca" in stranger.said
        other_name = post(receiver.url.replace("localhost", "127.0.0.1"), tmp_path, authority.certificate)
        assert other_name.verdict is Verdict.LATER
        assert len(receiver.taken) == 1


def test_a_redirect_is_not_followed_and_a_cookie_not_kept(tmp_path: Path) -> None:
    with listening(Receiver()) as target, listening(Receiver()) as receiver:
        receiver.answer = lambda d: (307, {"location": target.url, "set-cookie": "a=b"}, b"")
        assert post(receiver.url, tmp_path).verdict is Verdict.ENDPOINT
        assert not target.taken
        assert "cookie" not in receiver.refused[0].headers


def test_a_receiver_that_never_ends_its_answer_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "WHOLE_S", 0.5)
    with listening(Receiver()) as receiver:
        receiver.answer = lambda d: (time.sleep(2), (200, {}, b""))[1]
        answer = post(receiver.url, tmp_path)
    assert answer.verdict is Verdict.LATER
    assert "no answer" in answer.said


def test_what_a_receiver_says_is_shown_inert_and_short(tmp_path: Path) -> None:
    with listening(Receiver()) as receiver:
        receiver.answer = lambda d: (500, {}, b"\x1b[31m\xff\n" + b"a" * 10**6)
        said = post(receiver.url, tmp_path).said
    assert said.startswith("it answered 500: \\x1b[31m\\xff a")
    assert len(said) < 400
