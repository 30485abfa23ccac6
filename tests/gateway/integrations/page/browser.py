"""Chromium without a window, and what a test asks of it."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlencode

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

T = TypeVar("T")

SECONDS = 60
"""How long a test waits for what it expects."""
WIDE = (1280, 900)
NARROW = (360, 800)


def chromium() -> tuple[str, str] | None:
    """Paths of Chromium and its driver; None if one of them is not installed."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def start(paths: tuple[str, str]) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))


def unless_stale(condition: Callable[[], T]) -> T | None:
    """The value of a condition; None if an element was replaced meanwhile."""
    try:
        return condition()
    except StaleElementReferenceException:
        return None


class Page:
    """The search page of one gateway in the browser."""

    def __init__(self, driver: webdriver.Chrome, port: int) -> None:
        self.driver = driver
        self.origin = f"http://127.0.0.1:{port}"

    def open(self, *, size: tuple[int, int] = WIDE, dark: bool = False, **state: Any) -> None:
        """Load the page in a state of its address."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.resize(size)
        self.driver.get("about:blank")  # an address with another fragment alone loads nothing
        self.driver.get(f"{self.origin}/#{urlencode(state, doseq=True)}")
        self.until(lambda: self.one("#version").text)
        self.settled()

    def resize(self, size: tuple[int, int]) -> None:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def settled(self) -> None:
        """Wait until nothing is being loaded."""
        self.until(
            lambda: self.run(
                "return !document.querySelector('[aria-busy]')"
                " && !document.querySelector('#content').textContent.includes('Loading…')"
                " && [...document.querySelectorAll('details.facet[open] .body')]"
                "      .every((one) => one.textContent)"
            )
        )

    def until(self, condition: Callable[[], T]) -> T:
        """Wait until a condition holds; return its value."""
        end = time.monotonic() + SECONDS
        while not (value := unless_stale(condition)):
            assert time.monotonic() < end, f"it does not happen; the page says: {self.text()}"
            time.sleep(0.03)
        return value

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def named(self, selector: str, text: str) -> WebElement:
        """The first element that shows a text."""
        return self.until(lambda: next((e for e in self.all(selector) if text in e.text), None))

    def shown(self, selector: str) -> WebElement:
        """The first element that is visible."""
        return self.until(lambda: next((e for e in self.all(selector) if e.is_displayed()), None))

    def click(self, selector: str, text: str = "") -> None:
        self.until(lambda: self.named(selector, text).click() or True)

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return list(self.run(script, selector))

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def said(self) -> str:
        """What a screen reader was told last."""
        return self.texts("#live")[0]

    def ask(self, question: str) -> None:
        """Type a question and wait for the answer."""
        box = self.one("#q")
        box.clear()
        box.send_keys(question, Keys.ENTER)
        self.until(lambda: f"q={urlencode({'': question})[1:]}" in self.driver.current_url)
        self.settled()

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """Text, name or id of the element that has the focus."""
        script = (
            "const e = document.activeElement;"
            "if (e === document.body) return '';"
            "const label = e.getAttribute('aria-label') || e.labels?.[0]?.textContent;"
            "return (label || e.textContent || e.id).trim()"
        )
        return str(self.run(script))

    def tab_to(self, name: str) -> None:
        """Press Tab until an element has the focus."""
        for _ in range(150):
            self.press(Keys.TAB)
            if name in self.focused():
                return
        raise AssertionError(f"Tab does not reach {name!r}")

    @contextmanager
    def network(self, *, offline: bool = False, latency: int = 0) -> Iterator[None]:
        """Another network in a block: ``latency`` in milliseconds."""
        usual = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        command = "Network.emulateNetworkConditions"
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd(command, {**usual, "offline": offline, "latency": latency})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd(command, usual)

    def drop(self, *files: tuple[str, str]) -> None:
        """Drop files, by name and content, on the page."""
        self.run(
            """const transfer = new DataTransfer();
            for (const [name, content] of arguments[0])
              transfer.items.add(new File([content], name));
            for (const kind of ["dragover", "drop"]) {
              document.body.dispatchEvent(new DragEvent(kind,
                { dataTransfer: transfer, bubbles: true, cancelable: true }));
            }""",
            [list(file) for file in files],
        )

    def requests(self) -> list[str]:
        """Addresses of all requests since the last call."""
        messages = (
            json.loads(one["message"])["message"] for one in self.driver.get_log("performance")
        )
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
