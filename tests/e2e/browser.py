"""A real browser without a screen: Chromium, as Debian packages it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import (
    ElementNotInteractableException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from support import eventually, require

SIZE = "1280,900"


class Browser:
    """A page as its reader sees it.

    Attributes:
        driver: of Selenium, for what is not here.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """From nothing: what was kept of an earlier page of that origin is forgotten."""
        self.driver.get("about:blank")
        self.driver.get(url)
        self.run("sessionStorage.clear()")
        self.driver.refresh()

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str, text: str | None = None) -> WebElement:
        """The one element that is to be seen, has that text and is selected.

        Raises:
            LookupError: there is none, or more.
        """
        with _there():
            found = [
                one
                for one in self.driver.find_elements(By.CSS_SELECTOR, selector)
                if one.is_displayed() and text in (None, one.text)
            ]
        if len(found) != 1:
            raise LookupError(f"{len(found)} are {selector} with {text!r}")
        return found[0]

    def texts(self, selector: str) -> list[str]:
        """Those of all that is selected and to be seen, at one moment; white space is a space."""
        script = """
            const found = [...document.querySelectorAll(arguments[0])];
            return found.filter((one) => one.checkVisibility()).map((one) => one.innerText);
        """
        return [" ".join(text.split()) for text in self.run(script, selector)]

    def count(self, selector: str) -> int:
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def click(self, selector: str, text: str | None = None) -> None:
        """Click on it, once it is there."""

        def try_it() -> None:
            with _there():
                self.find(selector, text).click()

        eventually(try_it)

    def type(self, selector: str, text: str) -> None:
        """Have a text in a field, once it is there."""

        def try_it() -> None:
            with _there():
                field = self.find(selector)
                field.clear()
                field.send_keys(text)

        eventually(try_it)

    def submit(self, selector: str, text: str) -> None:
        self.type(selector, text + Keys.ENTER)

    def faults(self) -> list[str]:
        """What the browser has found wrong with the page since the last call.

        That an address does not answer is none of the page's.
        """
        told = self.driver.get_log("browser")
        return [one["message"] for one in told if one["source"] != "network"]


@contextlib.contextmanager
def _there() -> Iterator[None]:
    """What the page has drawn anew meanwhile is not there."""
    try:
        yield
    except (StaleElementReferenceException, ElementNotInteractableException) as error:
        raise LookupError(str(error)) from error


@contextlib.contextmanager
def browser(place: Path) -> Iterator[Browser]:
    """Skips the test where there is none, but not in CI."""
    program, steered_by = shutil.which("chromium"), shutil.which("chromedriver")
    missing = program is None or steered_by is None
    require("needs chromium and chromium-driver" if missing else None)
    options = webdriver.ChromeOptions()
    options.binary_location = program or ""
    for argument in (
        *("--headless=new", f"--window-size={SIZE}", f"--user-data-dir={place}"),
        *("--no-sandbox", "--disable-dev-shm-usage"),  # root, in a container
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(steered_by))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
