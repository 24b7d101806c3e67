"""Drives Chromium for tests of the gateway's page, and notes whatever a page must not do: errors, requests to other hosts."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

AXE = Path(__file__).parents[1] / "vendor/axe-core-4.14.1.js"
AWAY = re.compile(
    r"net::ERR_(CONNECTION_\w+|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)|status of (404|409|422|503)"
)
"""What the browser itself notes while no gateway answers, or one without a master or a history behind it."""
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 360, "height": 740}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser of this host, without a window."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium on this host")
    # Root may not use Chromium's sandbox. What the tests show it is ours.
    options = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page whose faults are noted. `address`: the printed one, with its token. `may_be_away`: the gateway is ended in
    between, or has no master.
    """

    def __init__(self, browser: Browser, address: str, *, may_be_away: bool = False, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": WIDE, **options})
        self.context.set_default_timeout(20_000)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self._host = urlsplit(address).netloc
        self._may_be_away = may_be_away
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.faults.append(f"{error}\n{error.stack}"))
        self.page.on("request", self._asked)
        self.page.goto(address)
        self.base = f"http://{self._host}/"

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not (self._may_be_away and AWAY.search(message.text)):
            self.faults.append(f"{message.type}: {message.text} {message.location.get('url', '')}")

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).netloc != self._host and not request.url.startswith(("blob:", "data:")):
            self.faults.append(f"a request to {request.url}")

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Close it. Nothing must have been wrong with it."""
        self.context.close()
        assert error is not None or self.faults == []

    def open(self, place: str, selector: str) -> None:
        """Go to a place of the page, and wait for what is to be seen there."""
        self.page.goto(f"{self.base}#/{place}")
        self.page.wait_for_selector(selector)

    def sees(self, selector: str, text: str | re.Pattern[str]) -> None:
        """Wait until something is seen there."""
        self.page.locator(selector).filter(has_text=text).first.wait_for(timeout=40_000)

    def tile(self, title: str) -> str:
        """The number of this title on the overview."""
        return (
            self.page.locator(".tile", has=self.page.get_by_text(title, exact=True))
            .locator(".tile-value")
            .inner_text()
        )

    def shares(self) -> dict[str, float]:
        """The share of each framework as the page's latest point has it."""
        code = "import('/page/store.js').then((page) => page.store.samples.points.at(-1)?.shares ?? {})"
        return cast("dict[str, float]", self.page.evaluate(code))

    def violations(self) -> list[str]:
        """What axe-core finds: WCAG 2.2 A and AA."""
        self.page.evaluate(AXE.read_text() + ";0")
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        found = self.page.evaluate("(tags) => axe.run({runOnly: {type: 'tag', values: tags}})", tags)
        return [
            f"{each['id']}: {each['help']}: {node['html'][:160]} {node['failureSummary'][:300]}"
            for each in found["violations"]
            for node in each["nodes"][:3]
        ]

    def frames_a_second(self, scroll: str) -> float:
        """How many frames the page draws in a second while `scroll` scrolls it: a function of the frame's number."""
        code = """new Promise((done) => {
            const step = SCROLL;
            let [frames, start] = [0, 0];
            const draw = (now) => {
                start ||= now;
                step(frames);
                if (now - start > 1500) return done(frames / ((now - start) / 1000));
                frames += 1;
                requestAnimationFrame(draw);
            };
            requestAnimationFrame(draw);
        })"""
        return float(self.page.evaluate(code.replace("SCROLL", scroll)))

    def shot(self, name: str) -> None:
        """Save how it looks."""
        place = Path(os.environ.get("OFFERD_SCREENSHOTS") or tempfile.gettempdir())
        self.page.screenshot(path=place / f"page-{name}.png")
