"""The timeline of a workload and the inventory of models in a real browser, over a running collector."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.batches import Agent, envelope, from_rows
from tests.browser.browser import Page, group
from tests.browser.test_page import CONTRAST
from tests.lives import Life, Row, busy_server
from tests.running import Collector, collector
from tests.stories import HOSTILE

pytestmark = pytest.mark.browser

EVIL = "container:e011e011e011"

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collector(tmp_path_factory.mktemp("story"), silent_after_s=3600) as started:
        with Agent(started.grpc_address, host="gpu-17") as agent:
            agent.wait_welcome()
            agent.heartbeat()
            send(agent, busy_server())
            send(agent, busy_server(HOSTILE, "evil", workload=EVIL, program=f"/tmp/{HOSTILE}/sh", first=81))
            send(agent, gone())
            yield started


@pytest.fixture(scope="module")
def page(running: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    opened = Page(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def gone() -> list[Row]:
    """A server that ended three hours ago."""
    life = Life("container:90e090e090e0", runtime="llama-server", version="")
    server = life.process(4000, program="/opt/llama-server")
    life.turn(12_000, server, "unknown", "start", "exec")
    life.load(11_990, server, 90, "/srv/gone.gguf")
    life.identity(11_980, server, 90, "gone")
    life.exit(10_800, server, signal=15)
    return life.rows


def send(agent: Agent, rows: list[Row]) -> None:
    number = next(_numbers)
    agent.send(envelope(number, from_rows(rows)))
    agent.wait_answered(number)


def story(page: Page, running: Collector, of: str, **more: str) -> None:
    """Open the timeline by its address."""
    query = "".join(f"&{name}={value}" for name, value in more.items())
    page.open(f"{running.http_url}/?workload={of}{query}")
    page.one("#workload .lanes > li")


def lane(page: Page, name: str) -> str:
    """What a lane tells a reader without eyes for pictures."""
    found = page.script("return [...document.querySelectorAll('svg.lane')].map(n => n.getAttribute('aria-label'))"
                        ".find(t => t.startsWith(arguments[0])) ?? ''", name)
    return str(found)


def test_a_model_shows_where_it_is_loaded_and_leads_to_the_timeline_of_that_workload(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    found = "[...document.querySelectorAll('.model-row')].find(n => n.textContent.includes('tiny-llama'))"
    page.until(lambda: page.script(f"const m = {found}; m?.querySelector('summary').click(); return !!m"), "the model")
    page.until(lambda: page.script(f"return {found}.querySelector('.places .link') !== null"), "its places")
    shown = page.script(f"return {found}.textContent")
    for word in ("serve", "llama", "Q4_K_M", "717171717171", "uvicorn 0.54.0", "gpu-17"):
        assert word in shown
    page.script(f"{found}.querySelector('.places .link').click()")
    page.until(lambda: "container:5e1ec7ed0001" in page.text("#workload .story-of"), "the timeline")
    assert "workload=container" in page.driver.current_url
    assert page.errors() == []


def test_a_model_that_nobody_serves_any_more_is_not_loaded(page: Page, running: Collector) -> None:
    page.open(running.http_url)
    found = "[...document.querySelectorAll('.model-row')].find(n => n.querySelector('.name').textContent === 'gone')"
    phase = f"return {found}?.querySelector('.phase').textContent"
    page.until(lambda: page.script(phase) == "not loaded", "the model that is gone")


def test_lanes_tell_phases_effects_and_detections(page: Page, running: Collector) -> None:
    story(page, running, "container:5e1ec7ed0001")
    assert [name.text for name in page.all("#workload .lane-name span:first-child")] == [
        "python3.11 4000", "tiny-llama, thread 4000", "sentiment, thread 4007"]
    process = lane(page, "python3.11 4000")
    assert [word for word in ("start", "load", "warmup", "serve") if f" {word} " in process] == ["start", "load", "serve"]
    assert "1 connection" in process
    assert "2 detections" in lane(page, "sentiment")
    assert "tail" in lane(page, "tiny-llama")
    page.script("document.querySelector('svg.lane svg.m-detection').dispatchEvent(new MouseEvent('click'))")
    assert page.one(".story-table .chosen a").get_attribute("href").startswith(f"{running.http_url}/?detection=")
    page.one(".story-table .chosen a").click()
    page.until(lambda: page.all(".explanation .why"), "the explanation of the detection")
    assert page.errors() == []


def test_an_incident_leads_to_the_timeline_around_it_and_back(page: Page, running: Collector) -> None:
    page.open(f"{running.http_url}/?q=sentiment")
    shown = group(page, "The load of sentiment")
    page.one(f"{shown} > .summary").click()
    page.one(f"{shown} .story").click()
    page.one("#workload .lanes > li")
    assert page.script("return document.querySelector('#groups').checkVisibility()") is False
    assert "2 detections" in lane(page, "sentiment")
    page.one("#workload .story-head button").click()
    page.until(lambda: page.script("return document.querySelector('#groups').checkVisibility()"), "the list")
    assert page.one("#q").get_attribute("value") == "sentiment"
    page.driver.back()
    page.until(lambda: page.script("return document.querySelector('#workload').checkVisibility()"), "the timeline again")


def test_a_workload_that_ended_shows_its_last_hour_and_how_it_ended(page: Page, running: Collector) -> None:
    story(page, running, "gone")
    assert "ended before the last hour" in page.text("#workload .story-note")
    assert "ended by signal 15" in page.text("#workload .lanes")


def test_a_wrong_name_is_told_with_names_near_it(page: Page, running: Collector) -> None:
    page.open(f"{running.http_url}/?workload=tiny-lama")
    page.until(lambda: "tiny-llama" in page.text("#workload [role=alert]"), "the near name")
    assert all("404" in error for error in page.errors())


def test_one_model_narrows_the_lanes(page: Page, running: Collector) -> None:
    story(page, running, "container:5e1ec7ed0001", model="sentiment")
    names = [name.text for name in page.all("#workload .lane-name span:first-child")]
    assert names == ["python3.11 4000", "sentiment, thread 4007"]


def test_hostile_names_are_text(page: Page, running: Collector) -> None:
    story(page, running, EVIL)
    page.save("story-hostile")
    assert HOSTILE in page.script("return document.querySelector('#workload').textContent")
    assert page.all("#workload img, #workload script") == []
    assert "owned" not in page.driver.title
    assert page.script("return document.documentElement.scrollWidth <= innerWidth"), "hostile text widens the page"
    assert page.errors() == []


@pytest.mark.parametrize(
    ("width", "dark", "name"), [(1280, False, "light"), (1280, True, "dark"), (390, False, "mobile"), (390, True, "mobile-dark")])
def test_nothing_of_a_timeline_is_cut_off_or_unreadable(
        page: Page, running: Collector, width: int, dark: bool, name: str) -> None:
    page.open(f"{running.http_url}/?workload=container:5e1ec7ed0001", width=width, height=844 if width < 600 else 900, dark=dark)
    page.one("#workload .lanes > li")
    page.until(lambda: page.all("#models li"), "models")
    page.script("document.querySelector('.model-row summary').click()")
    page.one(".places .link")
    page.save(f"story-{name}")
    assert page.script("return document.documentElement.scrollWidth") <= width
    assert page.script(CONTRAST) == []
