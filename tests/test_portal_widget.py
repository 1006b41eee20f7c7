"""The widget in a browser: on another site's page that allows itself almost nothing, on one that would steer it, on one that may not have it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from portal_server import client, free_port, serving

pytest.importorskip("selenium", reason="tests of pages need selenium")

from portal_browser import NEEDED, browser, find, laid_out, quiet, resize, shot, sound, texts, until, webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from govlm.portal.settings import Settings, SettingsError

pytestmark = NEEDED
ANSWERED = ".hall:not([aria-busy]) > .foot"
PAGE = """<!doctype html><html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>示例市人民政府</title><script src="{hall}/widget.js" defer></script></head>
<body><main><h1>示例市人民政府</h1><p>通知公告</p><p><a href="/">本周六窗口照常办公</a></p></main></body></html>"""
POLICY = "default-src 'none'; script-src {hall}; frame-src {hall}; base-uri 'none'; require-trusted-types-for 'script'"


@contextlib.contextmanager
def portal_page(hall: str, address: str) -> Iterator[str]:
    """A page of a portal that has the tag on it; gives its origin. address: one of this machine's; only 127.0.0.1 is the hall's site."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = PAGE.format(hall=hall).encode() if self.path == "/" else b""
            self.send_response(200 if body else 204)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", POLICY.format(hall=hall))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), Handler)
    thread = threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True)
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
    """An element of the widget on the portal's page, which stands in a shadow root."""
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


def focused(driver: Any) -> Any:
    """What has the focus on the portal's page, within the widget."""
    driver.switch_to.default_content()
    return driver.execute_script("return document.querySelector('govlm-assistant').shadowRoot.activeElement")


def ask(driver: Any, text: str) -> str:
    before = len(texts(driver, ANSWERED))
    find(driver, "#message").send_keys(text, Keys.ENTER)
    until(driver, lambda d: len(texts(d, ANSWERED)) > before, "an answer")
    return texts(driver, ".hall")[-1]


def test_it_answers_by_keyboard_on_a_page_with_the_strictest_policy(driver: Any, places: dict[str, str]) -> None:
    visit(driver, places["listed"])
    fetched = driver.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert {urlsplit(name).netloc for name in fetched} <= {urlsplit(places["hall"]).netloc, urlsplit(places["listed"]).netloc}
    early = [name for name in fetched if "/v1/" in name or name.endswith("/widget")]
    assert not early, "something was asked for before it was opened"
    button = inside(driver, ".open")
    assert button.accessible_name == "智能助手" and not inside(driver, ".panel").is_displayed()
    webdriver.ActionChains(driver).send_keys(Keys.TAB, Keys.TAB).perform()  # the page's link, then the button
    assert focused(driver) == button
    webdriver.ActionChains(driver).send_keys(Keys.ENTER).perform()
    enter(driver)
    until(driver, lambda d: d.execute_script("return document.activeElement.id") == "message", "the focus is in the box")
    shot(driver, "widget-start")
    webdriver.ActionChains(driver).send_keys("低保咋个申请嘛", Keys.ENTER).perform()
    until(driver, lambda d: d.find_elements(By.CSS_SELECTOR, ANSWERED))
    assert "最低生活保障申请" in texts(driver, ".hall")[0] and "AI 生成" in texts(driver, ".hall")[0]
    sound(driver)
    assert driver.get_cookies() == [] and driver.execute_script("return sessionStorage.getItem('govlm-visitor')")
    driver.switch_to.default_content()
    shot(driver, "widget")
    enter(driver)
    find(driver, ".cite").send_keys(Keys.ENTER)
    find(driver, "dialog[open]")
    webdriver.ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    until(driver, lambda d: not d.execute_script("return document.querySelector('dialog').open"), "Esc closes the dialog")
    driver.switch_to.default_content()
    assert inside(driver, ".panel").is_displayed(), "Esc closed the panel with it"
    enter(driver)
    webdriver.ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    driver.switch_to.default_content()
    until(driver, lambda d: not inside(d, ".panel").is_displayed(), "Esc closes it")
    assert focused(driver) == button
    asked = driver.execute_script("return performance.getEntriesByType('resource').map((e) => new URL(e.name).origin)")
    assert set(asked) <= {places["hall"], places["listed"]}, asked
    quiet(driver)


def test_it_goes_on_where_it_was_and_grows_for_a_form(driver: Any, places: dict[str, str]) -> None:
    visit(driver, places["listed"])
    inside(driver, ".open").click()
    enter(driver)
    assert "最低生活保障申请" in texts(driver, ".hall")[0]
    for text in ("我要申请", "都符合", "开始填", "同意"):
        ask(driver, text)
    find(driver, "#field-applicant_name").send_keys("张秀兰", Keys.TAB)
    until(driver, lambda d: d.find_elements(By.CSS_SELECTOR, "#field-applicant_name[data-given=张秀兰]"))
    driver.switch_to.default_content()
    until(driver, lambda d: inside(d, ".panel").size["width"] > 1000, "there is room for the form")
    shot(driver, "widget-form")
    inside(driver, ".shut").click()
    assert focused(driver) == inside(driver, ".open")


def test_it_fills_a_phone(driver: Any, places: dict[str, str]) -> None:
    visit(driver, places["listed"], "phone")
    shot(driver, "widget-closed-phone")
    inside(driver, ".open").click()
    assert inside(driver, ".panel").size == {"width": 360, "height": 740}
    enter(driver)
    shot(driver, "widget-phone")
    driver.switch_to.default_content()
    inside(driver, ".shut").click()
    assert not inside(driver, ".panel").is_displayed()
    laid_out(driver, "phone")


def test_only_the_frame_steers_it(driver: Any, places: dict[str, str]) -> None:
    visit(driver, places["listed"])
    inside(driver, ".open").click()
    enter(driver)
    until(driver, lambda _: "wide" in _panel(driver), "the form is there")
    driver.switch_to.default_content()
    driver.execute_async_script(
        "for (const govlm of ['close', 'narrow']) postMessage({govlm}, '*'); setTimeout(arguments[arguments.length - 1], 300)"
    )
    assert inside(driver, ".panel").is_displayed() and "wide" in _panel(driver)
    quiet(driver)


def _panel(driver: Any) -> str:
    driver.switch_to.default_content()
    return str(inside(driver, ".panel").get_attribute("class"))


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
    assert focused(driver) == link
    sound(driver)
    shot(driver, "widget-refused")
    refused = [entry["message"] for entry in driver.get_log("browser") if "frame-ancestors" in entry["message"]]
    assert refused and places["listed"] in refused[0], "it was not the policy that refused it"
    driver.switch_to.frame(inside(driver, "iframe"))
    assert not driver.find_elements(By.ID, "message")
    driver.switch_to.default_content()
    inside(driver, ".shut").click()
    assert not inside(driver, ".panel").is_displayed() and focused(driver) == inside(driver, ".open")
    inside(driver, ".open").click()
    assert inside(driver, ".told").is_displayed() and focused(driver) == link


def test_a_visitor_by_header(tmp_path: Path) -> None:
    header = "X-Govlm-Visitor"
    with client(tmp_path, origins=("http://localhost:8080",)) as found:
        assert "http://localhost:8080" in found.get("/widget").headers["content-security-policy"]
        assert "'none'" in found.get("/").headers["content-security-policy"].split("frame-ancestors")[1]
        found.cookies.clear()
        first, second = (found.get("/v1/me").json()["visitor"] for _ in range(2))
        assert first and second and first != second
        mine = {header: first}
        assert found.get("/v1/me", headers=mine).json()["kind"] == "visitor"
        number = found.post("/v1/sessions", headers=mine).json()["id"]
        said = found.post(f"/v1/sessions/{number}/turns", headers=mine, json={"text": "低保要啥材料"})
        assert said.status_code == 200 and said.json()["citations"]
        for other in ({}, {header: second}, {header: first + "x"}, {header: "a.b"}):
            assert found.get(f"/v1/sessions/{number}", headers=other).status_code == 404
        foreign = {"origin": "http://localhost:8080", "sec-fetch-site": "cross-site"}
        assert found.post("/v1/sessions", headers={**mine, **foreign}).status_code == 403
        assert found.get("/v1/me", headers={**mine, "x-forwarded-for": "10.0.0.9"}).json()["kind"] == "anonymous"
    with client(tmp_path, hosts=("hall.example.gov.cn",), port=80) as found:
        address = {"host": "hall.example.gov.cn"}
        assert found.get("/v1/me", headers={**address, header: first}).json()["kind"] == "anonymous"
        assert found.get("/v1/me", headers=address).json()["visitor"] == ""


def test_who_must_log_in_is_led_to_the_halls_own_page(driver: Any, tmp_path: Path) -> None:
    port = free_port()
    hall = f"http://127.0.0.1:{port}"
    with portal_page(hall, "127.0.0.2") as known:
        told = {"GOVLM_PORTAL_ORIGINS": known, "GOVLM_PORTAL_HOSTS": "127.0.0.1"}
        with serving(tmp_path, port=port, environment=told):
            visit(driver, known)
            inside(driver, ".open").click()
            enter(driver)
            link = find(driver, "#start a")
            assert link.text == "在新窗口打开"
            assert link.get_attribute("target") == "_blank" and link.get_attribute("href") == f"{hall}/"
            sound(driver)
            shot(driver, "widget-login")
            driver.switch_to.default_content()
            assert httpx.get(f"{hall}/widget.js", trust_env=False).headers["cross-origin-resource-policy"] == "cross-origin"


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
