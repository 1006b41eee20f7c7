"""The widget in a browser: on another site's page, under its content security policy, and on pages that may not have it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from portal_server import client, serving

pytest.importorskip("selenium", reason="tests of pages need selenium")

from portal_browser import NEEDED, browser, find, laid_out, named, resize, shot, sound, texts, until, webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = NEEDED
HALL: list[str] = []  # the hall's address, once it is there
PAGE = """<!doctype html><html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>某区人民政府</title><script src="{hall}/widget.js" defer></script></head>
<body><main><h1>某区人民政府</h1><p>通知公告</p><p><a href="#">本周六窗口照常办公</a></p></main></body></html>"""
POLICY = "default-src 'self'; script-src 'self' {hall}; frame-src {hall}"


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Security-Policy", POLICY.format(hall=HALL[0]))
        self.end_headers()
        self.wfile.write(PAGE.format(hall=HALL[0]).encode() if self.path == "/" else b"")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def site() -> Iterator[str]:
    """Another site (localhost, where the hall is 127.0.0.1: no cookie of the hall's reaches a frame there)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(one that may show the widget, one that may not)."""
    with site() as known, site() as strange:
        with serving(tmp_path_factory.mktemp("widget"), environment={"GOVLM_PORTAL_ORIGINS": known}) as base:
            HALL[:] = [base]
            yield known, strange


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found


def inside(driver: Any, css: str) -> Any:
    """An element of the widget's own, which stands in a shadow root."""
    return until(driver, lambda d: d.execute_script("return document.querySelector('govlm-assistant')?.shadowRoot.querySelector(arguments[0])", css))


def focused(driver: Any) -> Any:
    return driver.execute_script("return document.querySelector('govlm-assistant').shadowRoot.activeElement")


def enter(driver: Any) -> None:
    driver.switch_to.frame(inside(driver, "iframe"))
    until(driver, lambda d: d.execute_script("return document.documentElement.dataset.ready"))


def test_it_answers_on_another_sites_page(driver: Any, sites: tuple[str, str]) -> None:
    resize(driver, "desk")
    driver.get(sites[0])
    button = inside(driver, ".open")
    assert button.accessible_name == "智能助手" and not inside(driver, ".panel").is_displayed()
    webdriver.ActionChains(driver).send_keys(Keys.TAB, Keys.TAB).perform()  # the page's link, then the button
    assert focused(driver) == button
    webdriver.ActionChains(driver).send_keys(Keys.ENTER).perform()
    enter(driver)
    until(driver, lambda d: d.execute_script("return document.activeElement.id") == "message", "the focus is in the box")
    shot(driver, "widget-start")
    webdriver.ActionChains(driver).send_keys("低保咋个申请嘛", Keys.ENTER).perform()
    until(driver, lambda d: d.find_elements(By.CSS_SELECTOR, ".hall .foot"))
    assert "最低生活保障申请" in texts(driver, ".hall")[0] and "AI 生成" in texts(driver, ".hall")[0]
    sound(driver)
    assert driver.get_cookies() == [] and driver.execute_script("return sessionStorage.getItem('govlm-visitor')")
    driver.switch_to.default_content()
    shot(driver, "widget")
    driver.switch_to.frame(inside(driver, "iframe"))
    webdriver.ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    driver.switch_to.default_content()
    until(driver, lambda d: not inside(d, ".panel").is_displayed(), "Esc closes it")
    assert focused(driver) == button
    asked = driver.execute_script("return performance.getEntriesByType('resource').map((e) => new URL(e.name).origin)")
    assert set(asked) <= {HALL[0], sites[0]}, asked
    wrong = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE" and "favicon" not in entry["message"]]
    assert not wrong, wrong


def test_it_goes_on_where_it_was_and_grows_for_a_form(driver: Any, sites: tuple[str, str]) -> None:
    driver.get(sites[0])
    inside(driver, ".open").click()
    enter(driver)
    assert "最低生活保障申请" in texts(driver, ".hall")[0]
    for text in ("我要申请", "都符合", "开始填", "同意"):
        before = len(driver.find_elements(By.CSS_SELECTOR, ".hall .foot"))
        find(driver, "#message").send_keys(text, Keys.ENTER)
        until(driver, lambda d, before=before: len(d.find_elements(By.CSS_SELECTOR, ".hall .foot")) > before)
    find(driver, "#field-applicant_name").send_keys("张秀兰", Keys.TAB)
    until(driver, lambda d: d.find_elements(By.CSS_SELECTOR, "#field-applicant_name[data-given=张秀兰]"))
    driver.switch_to.default_content()
    until(driver, lambda d: inside(d, ".panel").size["width"] > 1000, "there is room for the form")
    shot(driver, "widget-form")
    inside(driver, ".shut").click()
    assert focused(driver) == inside(driver, ".open")


def test_it_fills_a_phone(driver: Any, sites: tuple[str, str]) -> None:
    resize(driver, "phone")
    driver.get(sites[0])
    shot(driver, "widget-closed-phone")
    inside(driver, ".open").click()
    assert inside(driver, ".panel").size == {"width": 360, "height": 740}
    enter(driver)
    shot(driver, "widget-phone")
    driver.switch_to.default_content()
    inside(driver, ".shut").click()
    assert not inside(driver, ".panel").is_displayed()
    laid_out(driver, "phone")
    resize(driver, "desk")


def test_a_page_that_is_not_named_cannot_show_it(driver: Any, sites: tuple[str, str]) -> None:
    driver.get(sites[1])
    driver.get_log("browser")
    inside(driver, ".open").click()
    refused = until(driver, lambda d: [e["message"] for e in d.get_log("browser") if "frame-ancestors" in e["message"]])
    assert sites[0] in refused[0]
    driver.switch_to.frame(inside(driver, "iframe"))
    assert not driver.find_elements(By.ID, "message")
    driver.switch_to.default_content()
    inside(driver, ".shut").click()  # it can be closed all the same
    assert not inside(driver, ".panel").is_displayed()


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
    with site() as known:
        told = {"GOVLM_PORTAL_ORIGINS": known, "GOVLM_PORTAL_HOSTS": "127.0.0.1"}
        with serving(tmp_path, environment=told) as base:
            HALL[:] = [base]
            driver.get(known)
            inside(driver, ".open").click()
            enter(driver)
            link = named(driver, "在新窗口打开", "a")
            assert link.get_attribute("target") == "_blank" and link.get_attribute("href") == f"{base}/"
            sound(driver)
            shot(driver, "widget-login")
            driver.switch_to.default_content()
            assert httpx.get(f"{base}/widget.js", trust_env=False).headers["cross-origin-resource-policy"] == "cross-origin"
