"""A real Chromium without a window, for tests of the page."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SCREENS = Path(__file__).parents[2] / "build" / "screens"
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Page:
    """One tab."""

    def __init__(self, profile: Path) -> None:
        """``profile``: an empty folder."""
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or "chromium"
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Go to an address, in a window of this size and theme."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        self.driver.get(url)

    def all(self, selector: str) -> list[WebElement]:
        """Elements by CSS selector, now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first, waited for."""
        return self.until(lambda: self.driver.find_element(By.CSS_SELECTOR, selector), f"an element {selector}")

    def text(self, selector: str) -> str:
        """Its text as a person sees it."""
        return self.one(selector).text

    def until(self, what: Callable[[], Any], words: str, timeout_s: float = 20) -> Any:
        """Wait until ``what`` gives something; ``words`` say what was waited for."""
        wait = WebDriverWait(self.driver, timeout_s, 0.1, (NoSuchElementException, StaleElementReferenceException))
        return wait.until(lambda _: what(), f"waited for {words}")

    def script(self, code: str, *arguments: Any) -> Any:
        """The value of a script's ``return``."""
        return self.driver.execute_script(code, *arguments)  # type: ignore[no-untyped-call]

    def save(self, name: str) -> None:
        """The whole page as ``build/screens/NAME.png``."""
        self.script("scrollTo({top: 0, behavior: 'instant'})")
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4000), "scale": 1}
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        SCREENS.mkdir(parents=True, exist_ok=True)
        (SCREENS / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))

    def errors(self) -> list[str]:
        """What the browser's console said that was an error, refused scripts included."""
        log: list[dict[str, str]] = self.driver.get_log("browser")
        return [line["message"] for line in log if line["level"] == "SEVERE"]

    def close(self) -> None:
        """End the browser."""
        self.driver.quit()


_CSS = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\a "})


def group(page: Page, word: str) -> str:
    """Selector of the first group with this text."""
    key = page.until(
        lambda: page.script(
            "return [...document.querySelectorAll('.group')]"
            ".find(g => g.querySelector('.summary').textContent.includes(arguments[0]))?.dataset.key",
            word,
        ),
        f"a group with '{word}'",
    )
    return f'.group[data-key="{str(key).translate(_CSS)}"]'
