"""The page in a real browser, over a running collector: what it shows, that it is live, and that hostile text stays text."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batches import Agent, envelope, from_rows
from tests.browser.browser import Page, group
from tests.running import Collector, collector
from tests.stories import HOSTILE, Row, poisoned_load, serving, stolen_credentials

pytestmark = pytest.mark.browser

BROKEN = """\
title: Weights changed
detection: {written: {file.paht|endswith: .gguf}, condition: written}
id: 1b1c5a3e-3c1f-4b7e-9d0a-6f4f6a5b7c8d
status: test
description: Test.
author: Test
date: 2026-11-25
logsource: {product: modelward, category: file_open}
level: high
tags: [attack.t1565, atlas.aml.t0018]
modelward:
  reason: Test.
  next: Test.
  sentence: Test.
  tests: {match: [{file.access: write}], no_match: [{file.access: read}]}
"""

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    rules = tmp_path_factory.mktemp("rules")
    (rules / "my_rule.yml").write_text(BROKEN)
    with collector(tmp_path_factory.mktemp("page"), rules=[rules]) as started:
        yield started


@pytest.fixture(scope="module")
def agent(running: Collector) -> Iterator[Agent]:
    with Agent(running.grpc_address, host="gpu-17") as connected:
        connected.wait_welcome()
        connected.heartbeat({("seen", "exec"): 10}, tracked_processes=14)
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


def test_a_group_shows_severity_sentence_host_model_phase_and_chain(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    shown = group(page, "sentiment.joblib")
    assert page.text(f"{shown} .badge").lower() == "critical"
    assert "sh -c id" in page.text(f"{shown} .sentence")
    assert page.text(f"{shown} .host") == "gpu-17"
    assert page.text(f"{shown} .model") == "sentiment.joblib"
    assert page.text(f"{shown} .phase") == "load"
    assert [chip.text for chip in page.all(f"{shown} .program")] == ["python3.11", "dash"]
    assert page.errors() == []


def test_an_opened_group_explains_itself_and_shows_its_events(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    shown = group(page, "sentiment.joblib")
    page.one(f"{shown} > .summary").click()
    assert page.one(f"{shown} > .summary").get_attribute("aria-expanded") == "true"
    assert "Stop the workload" in page.text(f"{shown} .next")
    assert page.text(f"{shown} td.what") == "sh -c id"
    assert page.one(f"{shown} a.technique").get_attribute("href").startswith("https://attack.mitre.org/techniques/T1059/")
    page.one(f"{shown} .events .quiet").click()
    page.until(lambda: len(page.all(f"{shown} table")) == 2, "everything that the process did")
    page.save("opened")
    assert page.errors() == []


def test_a_new_detection_arrives_without_a_reload(page: Page, running: Collector, agent: Agent) -> None:
    page.open(running.http_url)
    group(page, "sentiment.joblib")
    page.until(lambda: page.one("#live").get_attribute("data-state") == "live", "the stream")
    page.script("window.mark = 'not reloaded'")
    send(agent, poisoned_load(20, "arrived-later.joblib"))
    shown = group(page, "arrived-later.joblib")
    page.until(lambda: page.text(f"{shown} .model") == "arrived-later.joblib", "the name of the model, bound late")
    assert page.script("return window.mark") == "not reloaded"
    assert "arrived-later.joblib" in page.script("return document.getElementById('announce').textContent")


def test_an_update_leaves_open_groups_focus_and_elements_alone(page: Page, running: Collector, agent: Agent) -> None:
    page.open(running.http_url)
    shown = group(page, "sentiment.joblib")
    page.one(f"{shown} > .summary").click()
    page.one(f"{shown} td.what")
    page.script("document.querySelector(arguments[0]).mark = 'same'", shown)
    send(agent, poisoned_load(21, "another.joblib"))
    group(page, "another.joblib")
    assert page.script("return document.querySelector(arguments[0]).mark", shown) == "same"
    assert page.one(f"{shown} > .summary").get_attribute("aria-expanded") == "true"
    assert page.script("return document.activeElement === document.querySelector(arguments[0])", f"{shown} > .summary")


def test_hostile_text_is_shown_as_text_and_runs_nothing(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    shown = group(page, "<script>")
    page.one(f"{shown} > .summary").click()
    page.until(lambda: HOSTILE in page.text(f"{shown} td.what"), "the hostile command in the events")
    page.save("hostile")
    assert HOSTILE in page.script("return document.querySelector(arguments[0]).textContent", f"{shown} .sentence")
    assert "owned" not in page.driver.title
    assert page.all("#list img, #list script, aside img, aside script") == []
    assert page.script("return document.documentElement.outerHTML.includes('\\u202e')") is False
    assert page.script("return document.documentElement.scrollWidth <= innerWidth"), "hostile text widens the page"
    assert page.errors() == []


def test_a_script_that_got_in_would_not_run(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    page.one(".group")
    page.script(
        "const s = document.createElement('script'); const t = document.createTextNode(\"document.title='owned'\");"
        "try { s.append(t); document.body.append(s); } catch {}"
        "const i = document.createElement('img'); i.setAttribute('src', 'x:');"
        "try { i.setAttribute('onerror', \"document.title='owned'\"); document.body.append(i); } catch {}"
    )
    time.sleep(0.5)
    assert "owned" not in page.driver.title
    page.errors()


def test_filters_narrow_the_list_and_live_in_the_address(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    group(page, "sentiment.joblib")
    everything = len(page.all(".group"))
    page.one('.level[data-severity="critical"]').click()
    page.until(lambda: 0 < len(page.all(".group")) < everything, "fewer groups")
    assert {node.get_attribute("data-severity") for node in page.all(".group")} == {"critical"}
    page.one("#q").send_keys("sentiment")
    page.until(lambda: len(page.all(".group")) == 1, "one group")
    address = page.driver.current_url
    assert "severity=critical" in address
    assert "q=sentiment" in address
    page.open(address)
    group(page, "sentiment.joblib")
    assert len(page.all(".group")) == 1
    assert page.one("#q").get_attribute("value") == "sentiment"


def test_filters_that_exclude_everything_can_be_cleared(page: Page, running: Collector) -> None:
    page.open(f"{running.http_url}/?q=nothing-has-this-text")
    page.until(lambda: "Nothing matches" in page.text("#empty"), "the empty state")
    page.one("#empty button").click()
    group(page, "sentiment.joblib")


def test_the_keyboard_moves_opens_searches_and_clears(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    group(page, "sentiment.joblib")
    body = page.one("body")
    body.send_keys("j")
    assert page.script("return document.activeElement.matches('.group:first-child > .summary')")
    page.driver.switch_to.active_element.send_keys("\n")
    page.until(lambda: page.all(".group.open"), "an open group")
    page.driver.switch_to.active_element.send_keys("/")
    assert page.script("return document.activeElement.id") == "q"
    page.driver.switch_to.active_element.send_keys("nothing-has-this-text")
    page.until(lambda: page.all("#empty:not([hidden])"), "the empty state")
    page.driver.switch_to.active_element.send_keys("\ue00c")
    group(page, "sentiment.joblib")


def test_lost_events_problems_and_broken_rules_are_told(page: Page, running: Collector) -> None:
    with Agent(running.grpc_address, host="gpu-03", agent_id=b"D" * 16, epoch=b"H" * 16) as lossy:
        lossy.wait_welcome()
        lossy.heartbeat({("seen", "file_open"): 1000, ("ring_dropped", "file_open"): 40}, problems=["the spool is 92 % full"])
        page.open(running.http_url)
        page.until(lambda: "gpu-03 lost 40 events" in page.text("#attention"), "the loss")
        assert "4.0 % of what its hooks saw" in page.text("#attention")
        assert "the spool is 92 % full" in page.text("#attention")
        page.until(lambda: "Rule my_rule.yml is broken" in page.text("#attention"), "the broken rule")
        assert "unknown field 'file.paht' (did you mean 'file.path'?), line 2" in page.text("#attention")


def test_a_model_narrows_the_list_to_its_detections(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    group(page, "tiny-llama.gguf")
    page.until(
        lambda: page.script(
            "const b = [...document.querySelectorAll('#models button')].find(b => b.textContent === 'sentiment.joblib');"
            "b?.click(); return !!b"
        ),
        "the model",
    )
    page.until(lambda: len(page.all(".group")) == 1, "one group")
    group(page, "sentiment.joblib")


def test_hosts_tell_how_they_are_watched(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    page.one(".host-row summary").click()
    page.until(lambda: "tp_btf" in page.text(".doors"), "the doors of the host")
    assert "6.18.0" in page.text(".doors")


def test_models_show_id_format_digest_and_phase(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    page.until(lambda: "tiny-llama.gguf" in page.text("#models"), "the model")
    assert "9f86d081884c" in page.text("#models")


@pytest.mark.parametrize(
    ("width", "dark", "name"), [(1280, False, "light"), (1280, True, "dark"), (390, False, "mobile"), (390, True, "mobile-dark")]
)
def test_nothing_is_cut_off_or_unreadable(page: Page, running: Collector, width: int, dark: bool, name: str) -> None:
    page.open(running.http_url, width=width, height=844 if width < 600 else 900, dark=dark)
    shown = group(page, "sentiment.joblib")
    page.until(lambda: page.all("#models li"), "models")
    page.one(f"{shown} > .summary").click()
    page.one(f"{shown} td.what")
    page.save(name)
    assert page.script("return document.documentElement.scrollWidth") <= width
    cut = "return [...document.querySelectorAll('.body *, aside *')].filter(n => !n.closest('.scroll, .command')"
    assert page.script(f"{cut} && n.getBoundingClientRect().right > innerWidth).map(n => n.className)") == []
    # Text on its ground, WCAG AA for small text, for everything that carries words.
    assert page.script(CONTRAST) == []


CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].map((v, i) => i === 3 ? v / 255 : v);
};
const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] + under[i] * (1 - top[3])).concat(1);
const ground = (node) => {
  const layers = [];
  for (; node; node = node.parentElement) layers.push(rgba(getComputedStyle(node).backgroundColor));
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
};
const light = (c) => c.slice(0, 3).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const bad = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !node.checkVisibility()) continue;
  if (node.closest('.visually-hidden, .fresh, option, noscript')) continue;
  const back = ground(node), front = over(rgba(getComputedStyle(node).color), back);
  const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  const words = walker.currentNode.textContent.trim().slice(0, 30);
  if (ratio < 4.5) bad.push(`${node.className || node.tagName}: ${ratio.toFixed(2)} "${words}"`);
}
return [...new Set(bad)];
"""


def test_pages_opened_one_after_another_do_not_wait_for_those_that_were_left(page: Page, running: Collector) -> None:
    begun = time.monotonic()
    for number in range(10):
        page.open(f"{running.http_url}/?q=word-{number}")
        page.until(lambda: page.one("#live").get_attribute("data-state") == "live", "the stream")
    page.driver.back()
    page.until(lambda: page.one("#q").get_attribute("value") == "word-8", "the page before")
    page.until(lambda: page.one("#live").get_attribute("data-state") == "live", "its stream")
    assert time.monotonic() - begun < 40
    page.errors()


def test_a_lost_collector_is_shown_and_its_return_too(tmp_path: Path, page: Page) -> None:
    with collector(tmp_path) as running:
        address = running.http_url.removeprefix("http://")
        page.open(running.http_url)
        page.until(lambda: page.one("#live").get_attribute("data-state") == "live", "the stream")
        page.until(lambda: "Start the first agent" in page.text("#empty"), "what a newcomer sees")
        assert running.grpc_address in page.text("#empty")
        page.save("first")
    page.until(lambda: page.one("#live").get_attribute("data-state") == "lost", "the loss of the collector")
    with collector(tmp_path, http=address) as running:
        page.until(lambda: page.one("#live").get_attribute("data-state") == "live", "its return", 40)
        with Agent(running.grpc_address, host="gpu-20") as agent:
            agent.wait_welcome()
            agent.heartbeat()
            page.until(lambda: "Nothing wrong" in page.text("#empty"), "the state of a quiet host", 30)
            page.until(lambda: "Shell, downloader" in page.text("#empty"), "what is being watched for")
            page.save("quiet")
    page.errors()


def test_a_login_is_asked_for_and_opens_the_page(tmp_path: Path, page: Page) -> None:
    (tmp_path / "token").write_text("correct horse")
    with collector(tmp_path, http_token_file=tmp_path / "token") as running:
        page.open(running.http_url)
        page.one("#token").send_keys("wrong\n")
        page.until(lambda: "not the token" in page.text("#wrong"), "the refusal")
        page.save("login")
        page.one("#token").send_keys("correct horse\n")
        page.until(lambda: page.one("#live").get_attribute("data-state") == "live", "the page after the login")
    page.errors()
