"""What the citizen's page shows when things are not as usual: switched off, no answer at first, a clerk's reply, on paper, read aloud."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from portal_server import serving

pytest.importorskip("selenium", reason="tests of pages need selenium")

from portal_browser import NEEDED, browser, find, laid_out, quiet, resize, shot, sound, texts, until
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from govlm.hall.hall import Hall
from govlm.portal.operations.switches import Switches
from govlm.portal.security.accounts import Accounts, utc
from govlm.portal.store.handoffs import Handoffs

pytestmark = NEEDED
PASSWORD = "Right-password-77"
ANSWERED = ".hall:not([aria-busy]) > .foot"


class Place(NamedTuple):
    base: str
    hall: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("states")
    with serving(folder) as base:
        yield Place(base, folder / "portal" / "hall")


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found


def begin(driver: Any, place: Place) -> None:
    resize(driver, "desk")
    driver.get(f"{place.base}/web/icon.svg")
    driver.delete_all_cookies()
    driver.execute_script("localStorage.clear()")
    driver.get_log("browser")
    load(driver, place)


def load(driver: Any, place: Place) -> None:
    driver.get(place.base)
    until(driver, lambda d: d.execute_script("return document.documentElement.dataset.ready"), "the page is ready")


def ask(driver: Any, text: str) -> str:
    before = len(texts(driver, ANSWERED))
    find(driver, "#message").send_keys(text, Keys.ENTER)
    until(driver, lambda d: len(texts(d, ANSWERED)) > before, "an answer")
    return texts(driver, ".hall")[-1]


def test_an_answer_is_read_out_sentence_by_sentence(driver: Any, place: Place) -> None:
    """A region whose text is replaced before it was read out loses it: every sentence stays, behind the one before."""
    begin(driver, place)
    for question in ("低保要什么条件", "退休怎么办"):
        ask(driver, question)
        sentences = driver.execute_script("return [...document.querySelectorAll('#spoken > *')].map((e) => e.textContent)")
        assert len(sentences) > 2 and not any(re.search(r"\[\d", text) for text in sentences)
        shown = re.sub(
            r"\s|\[[\d-]+\]", "", driver.execute_script("return document.querySelector('.hall:last-child .body').textContent")
        )
        first = re.sub(r"\s", "", sentences[1])
        assert first.strip("【】") in shown, (first, shown)
    assert driver.execute_script("return document.querySelectorAll('#spoken > *').length") == len(sentences), (
        "the last answer only"
    )


def test_a_page_that_could_not_ask_who_asks_works_all_the_same(driver: Any, place: Place) -> None:
    begin(driver, place)
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/v1/me"]})
    try:
        load(driver, place)
    finally:
        driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    assert "AI 生成" in ask(driver, "身份证丢了怎么补")


def test_an_assistant_that_is_switched_off_says_so_and_takes_the_question_later(driver: Any, place: Place) -> None:
    begin(driver, place)
    with Hall.open(place.hall) as hall:
        switches = Switches(hall.store.database, hall.writer)
        try:
            switches.set("chat", False, "演练")
            until(driver, lambda d: not served(d))
            find(driver, "#message").send_keys("低保怎么申请", Keys.ENTER)
            told = find(driver, ".hall .problem").text
            assert "暂停" in told or "12345" in told or "停" in told, told
            laid_out(driver)
            sound(driver)
            resize(driver, "desk")
            shot(driver, "switched-off")
        finally:
            switches.set("chat", True)
            switches.close()
    until(driver, served)
    find(driver, ".hall button").click()
    until(driver, lambda d: len(texts(d, ANSWERED)) == 1, "an answer")
    assert len(texts(driver, ".mine")) == 1


def served(driver: Any) -> bool:
    """Whether the portal answers a question outside the conversation."""
    ask = """
        const done = arguments[0];
        fetch("/v1/me").then((r) => r.json()).then((me) => fetch("/v1/ask", {
          method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": me.csrf }, body: JSON.stringify({ text: "低保怎么申请" }),
        })).then((r) => done(r.status))"""
    return bool(driver.execute_async_script(ask) == 200)


def test_a_clerks_reply_comes_to_the_page(driver: Any, place: Place) -> None:
    begin(driver, place)
    ask(driver, "公积金怎么提")
    find(driver, "#person").click()
    find(driver, "#reason").send_keys("提取材料看不懂")
    find(driver, "dialog .primary").click()
    until(driver, lambda d: "等待工作人员" in find(d, "#notice").text)
    session = driver.execute_script("return localStorage.getItem('govlm-session')")
    with Hall.open(place.hall) as hall:
        handoffs = Handoffs(hall)
        asked = handoffs.of(session)
        assert asked is not None and asked.reason == "提取材料看不懂"
        handoffs.change(asked.id, "account:li", "taken", "您带上租房合同到窗口就行。")
    load(driver, place)
    until(driver, lambda d: "您带上租房合同到窗口就行。" in find(d, "#notice").text, "the reply")
    laid_out(driver)
    resize(driver, "phone")
    shot(driver, "reply-phone")
    quiet(driver)


def test_a_guide_on_paper(driver: Any, place: Place) -> None:
    begin(driver, place)
    ask(driver, "低保谁能办？什么条件？怎么办？要什么材料？注意什么？")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        hidden = "header, #say, .foot button, .side, .small"
        seen = driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()).map((e) => e.outerHTML)",
            hidden,
        )
        assert not seen, seen
        assert find(driver, ".materials").is_displayed()
        assert "AI 生成" in find(driver, ".hall").text, "the mark is for paper, too"
        shot(driver, "print")
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    paper = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 5})["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) > 1, "what does not fit on the first sheet is cut off"


def test_who_logs_in_is_asked_what_comes_along(driver: Any, place: Place) -> None:
    begin(driver, place)
    driver.get(f"{place.base}/login")
    find(driver, "#name")
    assert not driver.find_element(By.ID, "before").is_displayed(), "nothing was begun"
    assert find(driver, "#lead").text == "工作人员登录"
    with Hall.open(place.hall) as hall:
        accounts = Accounts(hall.store.database, hall.vault)
        account, told = accounts.create("chenxi", ["citizen"], utc())
        accounts.change(account, told, PASSWORD, utc())
    load(driver, place)
    ask(driver, "低保怎么申请")
    driver.get(f"{place.base}/login?then=/")
    assert find(driver, "#attach").is_selected() and "公用电脑" in find(driver, "#before").text
    assert find(driver, "#lead").text == "登录后继续"
    for size in ("phone", "desk"):
        laid_out(driver, size)
        sound(driver)
        shot(driver, f"login-{size}")
    find(driver, "#name").send_keys("chenxi")
    find(driver, "#password").send_keys(PASSWORD, Keys.ENTER)
    until(driver, lambda d: d.execute_script("return document.documentElement.dataset.ready"), "the page is ready")
    assert len(texts(driver, ".hall")) == 1, "the conversation goes on"
    export = "const done = arguments[0]; fetch('/v1/me/export').then((r) => r.json()).then((all) => done(all.sessions.length))"
    assert driver.execute_async_script(export) == 1
    quiet(driver)
