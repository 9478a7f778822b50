"""What operators do on the page: have a detection explained, silence what is expected, see how hosts stand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from modelward_proto.fields import SCHEMA_VERSION
from modelward_proto.v1.stream_pb2 import MODE_PAUSED, MODE_WATCHING, Door, Hello

from tests.batches import BOOT, Agent, envelope, from_rows
from tests.browser.browser import Page, group
from tests.running import Collector, collector
from tests.stories import HOSTILE, Row, poisoned_load, serving, stolen_credentials

pytestmark = pytest.mark.browser

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collector(tmp_path_factory.mktemp("operators")) as started:
        yield started


@pytest.fixture(scope="module")
def agent(running: Collector) -> Iterator[Agent]:
    hello = Hello(
        agent_id=b"A" * 16, epoch=b"E" * 16, schema_version=SCHEMA_VERSION, agent_version="0.1.0", host_name="gpu-17",
        boot_id=BOOT, kernel_release="6.18.0", first_unacked=1, labels=["env=prod", "team=vision"],
        doors=[Door(effect="exec", door="tp_btf/sched_process_exec", reason="first choice", proven=True),
               Door(effect="listen", door="none", reason="refused"),
               Door(effect="probe:torch", door="not mapped", reason="no tracked process has such a library"),
               Door(effect="probe:llama.cpp", door="uprobe: 4 functions of libllama.so", reason="first choice")],
    )
    with Agent(running.grpc_address, hello=hello) as connected:
        connected.wait_welcome()
        connected.heartbeat({("seen", "exec"): 10}, tracked_processes=14, mode=MODE_WATCHING)
        send(connected, serving(7, "tiny-llama.gguf"))
        send(connected, poisoned_load(8, "sentiment.joblib"))
        send(connected, stolen_credentials(7))
        send(connected, poisoned_load(9, HOSTILE, command=HOSTILE, program=f"/tmp/{HOSTILE}/sh"))
        yield connected


@pytest.fixture(scope="module")
def page(agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    opened = Page(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def send(agent: Agent, rows: list[Row]) -> None:
    number = next(_numbers)
    agent.send(envelope(number, from_rows(rows)))
    agent.wait_answered(number)


def opened(page: Page, word: str) -> str:
    """Open the first group with this text in its summary; gives its selector."""
    shown = group(page, word)
    page.one(f"{shown} > .summary").click()
    page.one(f"{shown} .doing")
    return shown


def explained(page: Page, shown: str) -> str:
    page.one(f"{shown} .explain").click()
    page.until(lambda: len(page.all(f"{shown} .why")) > 5, "the explanation")
    return page.text(f"{shown} .explanation")


def test_a_detection_is_explained_from_hook_to_page(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    shown = opened(page, "sentiment.joblib")
    text = explained(page, shown)
    for words in (
        "ran /usr/bin/dash, a shell", "tp_btf/sched_process_exec", "The server was loading a model",
        "It happened inside the load of", "sha256 9f86d081884c", "where a model server is in its life", "How sure is this?",
    ):
        assert words in text
    assert page.one(f"{shown} .explain").get_attribute("aria-expanded") == "true"
    page.save("explained")
    page.one(f"{shown} .explain").click()
    page.until(lambda: not page.one(f"{shown} .explanation").is_displayed(), "the explanation to close")
    assert page.errors() == []


def test_hostile_text_in_an_explanation_stays_text(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    shown = opened(page, "<script>")
    assert HOSTILE in explained(page, shown)
    page.one(f"{shown} .silence").click()
    page.until(lambda: HOSTILE in page.text("dialog .covers"), "the hostile program in what would be covered")
    assert "owned" not in page.driver.title
    assert page.all(".explanation img, .explanation script, dialog img, dialog script") == []
    assert page.script("return document.documentElement.scrollWidth <= innerWidth"), "hostile text widens the page"
    assert page.errors() == []


@pytest.mark.parametrize(("dark", "name"), [(False, "operators-mobile"), (True, "operators-mobile-dark")])
def test_nothing_of_it_is_cut_off_on_a_phone(page: Page, running: Collector, dark: bool, name: str) -> None:
    page.open(running.http_url, width=390, dark=dark)
    shown = opened(page, "sentiment.joblib")
    explained(page, shown)
    page.save(name)
    assert page.script("return document.documentElement.scrollWidth <= innerWidth")
    page.one(f"{shown} .silence").click()
    page.until(lambda: "It would have covered" in page.text("dialog .covers"), "what would be covered")
    box = page.one("dialog").rect
    assert 0 <= box["x"] <= box["x"] + box["width"] <= 390


def test_what_is_expected_is_silenced_after_showing_what_that_covers_and_shows_again_when_revoked(
    page: Page, running: Collector, agent: Agent
) -> None:
    send(agent, poisoned_load(30, "expected.joblib"))
    send(agent, poisoned_load(31, "expected.joblib"))
    page.open(running.http_url)
    shown = opened(page, "expected.joblib")
    page.one(f"{shown} .silence").click()
    page.until(lambda: "sha256 9f86d081884c" in page.text("dialog .covers"), "what would be covered")
    covers = page.text("dialog .covers")
    assert "/usr/bin/dash" in covers
    assert "gpu-17" in covers
    assert "detections of the last 7 days, on 1 host" in covers
    page.save("silence")
    page.one("dialog input[name=reason]").send_keys("a nightly test of ours\n")
    page.until(lambda: not page.all("dialog"), "the dialog to close")
    page.until(lambda: "a nightly test of ours" in page.text("#exceptions"), "the exception in the list")
    page.until(lambda: "sentiment.joblib" not in page.text("#groups"), "the silenced groups to go")
    toggle = page.one("#silenced")
    page.until(lambda: toggle.text.startswith("Show silenced ("), "the count of what is hidden")
    toggle.click()
    page.until(lambda: page.all(".group.silenced"), "silenced groups")
    assert page.all(".group.silenced .hush")[0].text == "silenced"
    assert "silenced=1" in page.driver.current_url
    page.one("#exceptions .revoke").click()
    page.one("#exceptions .revoke").click()
    page.until(lambda: not page.one("#exceptions").is_displayed(), "the end of the exception")
    page.until(lambda: not page.all(".group.silenced"), "the groups to speak again")
    page.one("#silenced").click()
    page.until(lambda: "sentiment.joblib" in page.text("#groups"), "the groups in the ordinary list")
    assert page.errors() == []


def test_escape_leaves_the_dialog_and_saves_nothing(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    shown = opened(page, "tiny-llama.gguf")
    page.one(f"{shown} .silence").click()
    page.one("dialog input[name=reason]").send_keys("no \ue00c")
    page.until(lambda: not page.all("dialog"), "the dialog to close")
    assert running.select("SELECT count() AS n FROM exceptions WHERE reason = 'no'")[0]["n"] == 0


def test_an_address_names_a_detection_and_opens_its_explanation(page: Page, running: Collector) -> None:
    [row] = running.select("SELECT detection_id FROM detections WHERE rule_name = 'credential_read' LIMIT 1")
    page.open(f"{running.http_url}/?detection={row['detection_id']}")
    page.until(lambda: row["detection_id"] in page.text(".explanation"), "the explanation")
    assert len(page.all(".group")) == 1
    page.one("#unpin").click()
    page.until(lambda: len(page.all(".group")) > 1, "all groups")
    assert "detection=" not in page.driver.current_url


def test_an_address_names_a_group(page: Page, running: Collector) -> None:
    [row] = running.select("SELECT key FROM incidents WHERE rule_name = 'credential_read' LIMIT 1")
    page.open(running.http_url)
    page.one(".group")
    page.script("location.search = `?incident=${encodeURIComponent(arguments[0])}`", row["key"])
    page.until(lambda: page.all(".group.open"), "the group")
    assert len(page.all(".group")) == 1


def test_labels_of_a_host_are_shown_and_narrow_the_list(page: Page, running: Collector) -> None:
    with Agent(running.grpc_address, host="gpu-18", agent_id=b"C" * 16, epoch=b"C" * 16) as other:
        other.wait_welcome()
        other.send(envelope(1, from_rows(poisoned_load(40, "elsewhere.joblib")), epoch=b"C" * 16))
        other.wait_answered(1)
        page.open(running.http_url)
        page.until(lambda: "elsewhere.joblib" in page.text("#groups"), "the group of the other host")
        page.until(lambda: page.one("#label").is_displayed(), "the choice of labels")
        page.until(lambda: "team=vision" in page.text("#groups"), "labels at the groups")
        page.script("const s = document.getElementById('label'); s.value = 'env=prod'; s.dispatchEvent(new Event('change'))")
        page.until(lambda: "elsewhere.joblib" not in page.text("#groups"), "only hosts with the label")
        assert "sentiment.joblib" in page.text("#groups")
        assert "label=env%3Dprod" in page.driver.current_url


def test_probes_that_no_server_has_a_use_for_do_not_look_like_a_failure(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    # Other tests may have left other hosts, and which is shown first changes.
    page.until(lambda: page.script(
        "const s = [...document.querySelectorAll('.host-row summary')].find(s => s.textContent.includes('gpu-17'));"
        "s?.click(); return !!s"), "the host")
    page.until(lambda: "probe:torch" in page.text(".host-row details[open] .doors"), "the doors of the host")
    assert [(proof.text, proof.get_attribute("class")) for proof in page.all(".host-row details[open] .proof")] == [
        ("proven", "proof yes"), ("not seen", "proof no"), ("not in use", "proof"), ("not called yet", "proof")]
    page.save("doors")


def test_a_host_that_does_not_watch_says_why(page: Page, running: Collector, agent: Agent) -> None:
    agent.heartbeat({("seen", "exec"): 10}, mode=MODE_PAUSED, mode_reason="a kernel upgrade, by root")
    page.open(running.http_url)
    page.until(lambda: "gpu-17 is paused" in page.text("#attention"), "the pause")
    assert "a kernel upgrade, by root" in page.text("#attention")
    page.save("paused")
    agent.heartbeat({("seen", "exec"): 10}, mode=MODE_WATCHING)
    page.until(lambda: "gpu-17 is paused" not in page.text("#attention"), "the end of the pause", 30)
