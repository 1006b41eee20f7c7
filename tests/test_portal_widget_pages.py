"""The widget on pages that allow themselves almost nothing, that would steer it, or that are not on the hall's list."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from portal_server import free_port, serving

pytest.importorskip("selenium", reason="tests of pages need selenium")

from portal_browser import NEEDED, browser, find, quiet, resize, shot, sound, texts, until, webdriver
from selenium.webdriver.common.keys import Keys

from govlm.portal.settings import Settings, SettingsError

pytestmark = NEEDED
ANSWERED = ".hall:not([aria-busy]) > .foot"
PAGE = """<!doctype html><html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>示例市人民政府</title><script src="{hall}/widget.js"></script></head>
<body><main><h1>示例市人民政府</h1><p><a href="/">首页</a></p></main></body></html>"""
POLICY = "default-src 'none'; script-src {hall}; frame-src {hall}; base-uri 'none'; require-trusted-types-for 'script'"


@contextlib.contextmanager
def portal_page(hall: str, address: str, policy: str = POLICY) -> Iterator[str]:
    """A page of a portal that has the tag on it; gives its origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = PAGE.format(hall=hall).encode() if self.path == "/" else b""
            self.send_response(200 if body else 204)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", policy.format(hall=hall))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The hall, and pages that have its tag: listed (of another site), near (listed, of the same site), stranger (not listed)."""
    port = free_port()
    hall = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        listed = stack.enter_context(portal_page(hall, "127.0.0.2"))
        near = stack.enter_context(portal_page(hall, "127.0.0.1"))
        stranger = stack.enter_context(portal_page(hall, "127.0.0.3"))
        environment = {"GOVLM_PORTAL_ORIGINS": f"{listed},{near}"}
        stack.enter_context(serving(tmp_path_factory.mktemp("widget"), port=port, environment=environment))
        yield {"hall": hall, "listed": listed, "near": near, "stranger": stranger}


def inside(driver: Any, css: str) -> Any:
    """An element of the widget on the portal's page."""
    script = "return document.querySelector('govlm-assistant')?.shadowRoot.querySelector(arguments[0])"
    return until(driver, lambda d: d.execute_script(script, css), css)


def visit(driver: Any, origin: str, size: str = "desk") -> None:
    resize(driver, size)
    driver.switch_to.default_content()
    driver.get(origin)
    driver.get_log("browser")
    inside(driver, ".open")


def enter(driver: Any) -> None:
    """Into the frame, once the page in it is ready."""
    driver.switch_to.frame(inside(driver, "iframe"))
    until(driver, lambda d: d.execute_script("return document.documentElement.dataset.ready"), "the page in the frame is ready")


def focused(driver: Any) -> str:
    """What has the focus on the portal's page, within the widget."""
    driver.switch_to.default_content()
    return driver.execute_script("return document.querySelector('govlm-assistant').shadowRoot.activeElement?.tagName ?? ''")


def ask(driver: Any, text: str) -> str:
    before = len(texts(driver, ANSWERED))
    find(driver, "#message").send_keys(text, Keys.ENTER)
    until(driver, lambda d: len(texts(d, ANSWERED)) > before, "an answer")
    return texts(driver, ".hall")[-1]


def test_a_page_with_the_strictest_policy(driver: Any, places: dict[str, str]) -> None:
    visit(driver, places["listed"])
    fetched = driver.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert {urlsplit(name).netloc for name in fetched} <= {urlsplit(places["hall"]).netloc, urlsplit(places["listed"]).netloc}
    assert not any("/v1/" in name or name.endswith("/widget") for name in fetched), (
        "something was asked for before it was opened"
    )
    inside(driver, ".open").click()
    enter(driver)
    assert "AI 生成" in ask(driver, "低保能领多少钱？")
    find(driver, ".cite").send_keys(Keys.ENTER)
    find(driver, "dialog[open]")
    webdriver.ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    until(driver, lambda d: not d.execute_script("return document.querySelector('dialog').open"), "Esc closes the dialog")
    driver.switch_to.default_content()
    assert inside(driver, ".panel").is_displayed(), "Esc closed the panel with it"
    sound(driver)
    quiet(driver)


def test_only_the_frame_steers_it(driver: Any, places: dict[str, str]) -> None:
    visit(driver, places["listed"])
    inside(driver, ".open").click()
    enter(driver)
    driver.switch_to.default_content()
    driver.execute_async_script(
        "for (const govlm of ['close', 'wide']) postMessage({govlm}, '*'); setTimeout(arguments[arguments.length - 1], 300)"
    )
    assert inside(driver, ".panel").is_displayed() and "wide" not in inside(driver, ".panel").get_attribute("class")
    quiet(driver)


def test_a_page_of_the_same_site_has_the_citizens_own_cookie(driver: Any, places: dict[str, str]) -> None:
    visit(driver, places["near"])
    inside(driver, ".open").click()
    enter(driver)
    kind = "const done = arguments[0]; fetch('/v1/me').then((r) => r.json()).then((me) => done(me.kind))"
    assert driver.execute_async_script(kind) == "visitor"
    assert "低保" in ask(driver, "低保怎么申请")
    driver.switch_to.default_content()
    quiet(driver)


def test_a_page_that_is_not_listed_is_told_where_to_go_instead(driver: Any, places: dict[str, str]) -> None:
    visit(driver, places["stranger"])
    inside(driver, ".open").click()
    until(driver, lambda d: inside(d, ".told").is_displayed(), "it tells that it cannot be shown here")
    assert not inside(driver, "iframe").is_displayed()
    link = inside(driver, ".told a")
    assert link.get_attribute("href") == places["hall"] + "/" and link.get_attribute("rel") == "noopener"
    assert focused(driver) == "A"
    sound(driver)
    shot(driver, "widget-refused")
    assert any("frame-ancestors" in entry["message"] for entry in driver.get_log("browser")), (
        "it was not the policy that refused it"
    )
    inside(driver, ".shut").click()
    assert not inside(driver, ".panel").is_displayed() and focused(driver) == "BUTTON"
    inside(driver, ".open").click()
    assert inside(driver, ".told").is_displayed() and focused(driver) == "A"


@pytest.mark.parametrize(
    "origin", ["www.example.gov.cn", "https://a.gov.cn/path", "https://a.gov.cn; script-src *", "*", "https://*", "'self'"]
)
def test_an_origin_that_is_none(origin: str) -> None:
    with pytest.raises(SettingsError, match="origins"):
        Settings(origins=(origin,))


@pytest.mark.parametrize(
    "origin", ["https://www.example.gov.cn", "http://127.0.0.2:8080", "https://*.example.gov.cn", "http://[::1]:80"]
)
def test_an_origin_that_is_one(origin: str) -> None:
    assert Settings(origins=(origin,)).origins == (origin,)
