"""A browser for tests of the portal's pages (Debian's chromium), and what is asked of every page in it: layout, access, a clean console.

Screenshots are left in $GOVLM_SCREENSHOTS, where that is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="tests of pages need selenium")

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

__all__ = [
    "NEEDED",
    "SIZES",
    "browser",
    "find",
    "laid_out",
    "named",
    "quiet",
    "resize",
    "shot",
    "sound",
    "texts",
    "until",
    "webdriver",
]

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
NEEDED = pytest.mark.skipif(
    not (CHROMIUM.exists() and DRIVER.exists()), reason="chromium and chromium-driver are not installed"
)
WAIT = 90  # seconds; the machine may be doing other work
SIZES = {"desk": (1440, 900), "zoom": (720, 450), "phone": (360, 740)}  # zoom: 1440 at 200 %


@contextmanager
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--force-device-scale-factor=1", "--lang=zh-CN"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    driver.set_page_load_timeout(WAIT)
    driver.set_script_timeout(WAIT)
    try:
        yield driver
    finally:
        driver.quit()


def resize(driver: Any, size: str) -> None:
    """To one of SIZES."""
    width, height = SIZES[size]
    scale = 2 if size == "zoom" else 1
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": size == "phone"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def until(driver: Any, condition: Callable[[Any], Any], what: str = "") -> Any:
    return WebDriverWait(driver, WAIT, 0.1, [StaleElementReferenceException]).until(condition, what)


def find(driver: Any, css: str) -> Any:
    """The first element in sight."""
    return until(driver, lambda d: next((e for e in d.find_elements(By.CSS_SELECTOR, css) if e.is_displayed()), None), css)


def named(driver: Any, text: str, tag: str = "button") -> Any:
    """The button, or another element, that is called so."""

    def look(d: Any) -> Any:
        return next(
            (e for e in d.find_elements(By.TAG_NAME, tag) if e.is_displayed() and text in (e.accessible_name, e.text)), None
        )

    return until(driver, look, text)


def texts(driver: Any, css: str) -> list[str]:
    return driver.execute_script("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", css)


def shot(driver: Any, name: str) -> None:
    folder = os.environ.get("GOVLM_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def quiet(driver: Any) -> None:
    """Nothing is wrong in the browser's console: no script failed, nothing was refused by the content security policy."""
    wrong = [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not wrong, wrong


_LAYOUT = """
const sight = (e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest(".hidden, .skip");
const root = document.querySelector("dialog[open]") ?? document.body;
const names = "button, a, input, select, textarea, h1, h2, h3, h4, p, label, dt, dd, img";
const sticky = (e) => { for (; e; e = e.parentElement) if (getComputedStyle(e).position === "sticky") return e; return null; };
const clip = (e) => {
  let { left, top, right, bottom } = e.getBoundingClientRect();
  for (let up = e.parentElement; up && up !== document.body; up = up.parentElement) {
    if (getComputedStyle(up).overflowY === "visible") continue;
    const box = up.getBoundingClientRect();
    left = Math.max(left, box.left); right = Math.min(right, box.right); top = Math.max(top, box.top); bottom = Math.min(bottom, box.bottom);
  }
  return { e, left, top, right, bottom, layer: sticky(e) };
};
const tell = (e) => `${e.tagName}.${e.className} ${(e.innerText || e.value || "").slice(0, 30)}`;
const boxes = [...root.querySelectorAll(names)].filter(sight).map(clip).filter((b) => b.right - b.left > 1 && b.bottom - b.top > 1);
const found = [];
if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide in ${innerWidth}`);
for (const [i, a] of boxes.entries()) {
  if (a.left < -1 || a.right > innerWidth + 1) found.push(`beyond the edge: ${tell(a.e)}`);
  if (!a.e.matches("input, select, textarea") && a.e.scrollWidth > a.e.clientWidth + 1 && getComputedStyle(a.e).overflowX !== "visible") found.push(`cut: ${tell(a.e)}`);
  if (a.e.matches("button") && a.e.scrollWidth > a.e.clientWidth + 2) found.push(`too narrow for its text: ${tell(a.e)}`);
  for (const b of boxes.slice(i + 1)) {
    if (a.e.contains(b.e) || b.e.contains(a.e) || a.layer !== b.layer) continue;
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 1) found.push(`over each other: ${tell(a.e)} | ${tell(b.e)}`);
  }
}
return found;
"""


def laid_out(driver: Any, *sizes: str) -> None:
    """In each of SIZES nothing sticks out of the page, is cut off, or lies over something else. Leaves the page at the last of them, or at the desk."""
    for size in sizes or SIZES:
        resize(driver, size)
        wrong = driver.execute_script(_LAYOUT)
        assert not wrong, (size, wrong)
    if not sizes:
        resize(driver, "desk")


def _axe() -> str:
    spec = find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.fail("axe is not installed: pip install axe-playwright-python")
    return (Path(spec.origin).parent / "axe.min.js").read_text("utf-8")


def sound(driver: Any) -> None:
    """axe finds nothing serious."""
    driver.execute_script(_axe())
    found = driver.execute_async_script(
        """const settled = Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
        settled.then(() => axe.run(document, {resultTypes: ['violations']})).then(arguments[arguments.length - 1])"""
    )
    serious = [
        (violation["id"], node["html"][:200], node.get("failureSummary", "")[:300])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert not serious, serious
