"""A browser's view of a daemon's page, and everything that went wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright
from stage import Stage

DESKTOP, PHONE = (1280, 860), (360, 760)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-precise-memory-info",
)  # fmt: skip
WATCH = """
window.refusedByPolicy = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.refusedByPolicy.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""
VIEWS = ("", "jobs", "activity", "pools", "sources", "approvals")
expect.set_options(timeout=30_000)


def executable() -> str | None:
    """The browser that this machine has."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Sight:
    """A page in a context of its own: no cookies of others. `faults` is what it must not have had."""

    def __init__(
        self, browser: Browser, stage: Stage, *, size: tuple[int, int] = DESKTOP, theme: str = "light", **context: Any
    ) -> None:
        self.stage = stage
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,
            **{"timezone_id": "Europe/Berlin"} | context,
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(40_000)
        self.page.add_init_script(WATCH)
        self.faults: list[str] = []
        self._moved = False
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: self.faults.append(f"thrown: {error}"))

    def _logged(self, message: ConsoleMessage) -> None:
        if "net::ERR_NETWORK_CHANGED" in message.text:  # an interface of this machine came or went: nobody's fault here
            self._moved = True
        elif message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def go(self, route: str = "", *, live: bool = True) -> Page:
        """Open a view, and wait until it is live."""
        self._open(f"{self.stage.url}/#/{route}")
        if live:
            self.live()
        return self.page

    def _open(self, url: str) -> None:
        self.page.goto(url)
        if self._moved:
            self._moved = False
            self.page.reload()

    def turn(self, route: str) -> Page:
        """To another view of the open page."""
        self.page.evaluate("route => { location.hash = `#/${route}` }", route)
        return self.page

    def live(self) -> None:
        expect(self.page.locator(".pill")).to_have_attribute("data-state", "live")

    def hurry(self, state: str) -> None:
        """Until its stream is in a state; the page is told again and again that the network has come back."""
        again = (
            "state => { dispatchEvent(new Event('online')); return document.documentElement.dataset.live === state }"
        )
        self.page.wait_for_function(again, arg=state, polling=250)

    def sign_in(self) -> Page:
        """As the operator of this machine."""
        self._open(self.stage.link())
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        self.live()
        return self.page

    def row(self, name: str) -> Locator:
        return self.page.get_by_role("row").filter(has=self.page.get_by_role("link", name=name, exact=True))

    def card(self, title: str) -> Locator:
        return self.page.get_by_role("region", name=title, exact=True)

    def close(self) -> None:
        refused = self.page.evaluate("window.refusedByPolicy ?? []")
        self.faults += [f"refused by the policy of the page: {one}" for one in refused]
        self.context.close()
