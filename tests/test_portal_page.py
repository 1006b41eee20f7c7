"""The citizen's page in a browser: the three stories by mouse, by keyboard, on a phone with a reload; streams that break; who sees badly."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from portal_server import serving

pytest.importorskip("selenium", reason="tests of pages need selenium")

from portal_browser import NEEDED, browser, find, laid_out, named, quiet, resize, shot, sound, texts, until, webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = NEEDED
STORIES = {
    entry["name"]: entry for entry in yaml.safe_load((Path(__file__).parent / "hall" / "dialogue.yaml").read_text("utf-8"))
}
ANSWERED = ".hall:not([aria-busy]) > .foot"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found


def begin(driver: Any, base: str, size: str = "desk") -> None:
    """The page as a new citizen finds it."""
    resize(driver, size)
    driver.get(f"{base}/web/icon.svg")
    driver.delete_all_cookies()
    driver.execute_script("localStorage.clear(); sessionStorage.clear()")
    driver.get_log("browser")
    load(driver, base)


def load(driver: Any, address: str) -> None:
    driver.get(address)
    until(driver, lambda d: d.execute_script("return document.documentElement.dataset.ready"), "the page is ready")


def count(driver: Any, css: str) -> int:
    return len(driver.find_elements(By.CSS_SELECTOR, css))


def answered(driver: Any, before: int) -> str:
    """The text of the next answer."""
    until(driver, lambda d: count(d, ANSWERED) > before or count(d, ".hall .problem"), "an answer")
    assert not texts(driver, ".hall .problem")
    return texts(driver, ".hall")[-1]


def say(driver: Any, text: str, *, keys: bool = False) -> str:
    """Sends a message; gives the answer."""
    before = count(driver, ANSWERED)
    if keys:
        webdriver.ActionChains(driver).send_keys(text, Keys.ENTER).perform()
    else:
        find(driver, "#message").send_keys(text)
        find(driver, "#send").click()
    return answered(driver, before)


def tab_to(driver: Any, css: str, key: str = Keys.TAB) -> Any:
    """Goes there by the keyboard. It can be seen where the focus is, all along."""
    for _ in range(80):
        webdriver.ActionChains(driver).send_keys(key).perform()
        now = driver.switch_to.active_element
        outline = driver.execute_script(
            "const e = document.activeElement, s = getComputedStyle(e); return e === document.body || s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2",
        )
        assert outline, f"the focus is not to be seen on {now.get_attribute('outerHTML')[:200]}"
        if driver.execute_script("return document.activeElement.matches(arguments[0])", css):
            return now
    pytest.fail(f"Tab does not lead to {css}")


def form(driver: Any) -> dict[str, str]:
    """field -> value, as the form beside the conversation shows them."""
    return driver.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('#form input, #form select')].map((e) => [e.id.slice(6), e.value]))"
    )


def tell(driver: Any, turns: list[dict[str, Any]], *, keys: bool = False) -> None:
    """Turns of a story; the form fills as they say."""
    for turn in turns:
        text = say(driver, turn["say"], keys=keys)
        shown = form(driver)
        assert all(shown[name] == (value or "") for name, value in turn.get("form", {}).items()), (turn, shown)
        assert all(part in text for part in turn.get("says", ())), (turn, text)
        if turn.get("cites"):
            assert texts(driver, ".hall:last-child .cite")


def handed_in(driver: Any) -> None:
    """There is a receipt, and what was handed in can be fetched."""
    receipt = find(driver, ".receipt")
    assert "回执号" in receipt.text
    for name, kind in (("下载 Word", "wordprocessingml"), ("下载 JSON", "application/json")):
        link = named(driver, name, "a").get_attribute("href")
        got = driver.execute_async_script(
            "const done = arguments[1]; fetch(arguments[0]).then(async (r) => done([r.status, r.headers.get('content-type'), (await r.blob()).size]))",
            link,
        )
        assert got[0] == 200 and kind in got[1] and got[2] > 100, got


# ---- the three stories


def test_minimum_living_allowance_by_mouse(driver: Any, base: str) -> None:
    begin(driver, base)
    laid_out(driver)
    sound(driver)
    resize(driver, "phone")
    shot(driver, "start-phone")
    resize(driver, "desk")
    shot(driver, "start")
    named(driver, "最低生活保障申请\n示例市民政局").click()
    text = answered(driver, 0)
    assert "AI 生成" in text
    assert texts(driver, ".card h4") == ["谁能办", "条件", "怎么办", "材料", "注意"]
    flat = "return [...document.querySelectorAll('.card .part')].every((e) => getComputedStyle(e).display === 'block')"
    assert driver.execute_script(flat), "a part of a guide is taken for something else of the page"
    box = find(driver, ".materials input")
    box.click()
    laid_out(driver)
    sound(driver)
    resize(driver, "desk")
    shot(driver, "guide")
    turns = STORIES["低保，一句话说了好几项"]["turns"]
    tell(driver, turns[:5])
    assert count(driver, "#steps .done") == 2 and texts(driver, "#steps .current")[0].startswith("表格")
    laid_out(driver)
    sound(driver)
    resize(driver, "desk")
    shot(driver, "form")
    tell(driver, turns[5:-1])
    named(driver, "核对并提交").click()
    assert "张秀兰" in find(driver, "dialog .check").text
    laid_out(driver)
    sound(driver)
    resize(driver, "desk")
    shot(driver, "confirm")
    named(driver, "再改改").click()
    assert not count(driver, ".receipt")
    named(driver, "核对并提交").click()
    named(driver, "确认无误，提交").click()
    handed_in(driver)
    laid_out(driver)
    resize(driver, "desk")
    shot(driver, "receipt")
    load(driver, base)
    assert driver.execute_script("return document.querySelector('.materials input').checked"), "the tick is forgotten"
    handed_in(driver)
    quiet(driver)


def test_retirement_by_keyboard(driver: Any, base: str) -> None:
    begin(driver, base)
    tab_to(driver, ".skip")
    webdriver.ActionChains(driver).send_keys(Keys.ENTER).perform()
    assert driver.switch_to.active_element.get_attribute("id") == "message"
    turns = STORIES["退休金，一口气都说了"]["turns"]
    tell(driver, turns[:-1], keys=True)
    tab_to(driver, "#field-employer").send_keys(Keys.END, "第二分厂")
    before = count(driver, ANSWERED)
    webdriver.ActionChains(driver).send_keys(Keys.TAB).perform()
    answered(driver, before)
    assert form(driver)["employer"] == "示例市钢铁有限公司第二分厂"
    tab_to(driver, "#form .primary").send_keys(Keys.ENTER)
    assert "周国平" in find(driver, "dialog .check").text
    tab_to(driver, "dialog .row .primary").send_keys(Keys.ENTER)
    handed_in(driver)
    tab_to(driver, ".receipt a")
    quiet(driver)


def test_medical_bills_on_a_phone_with_a_reload(driver: Any, base: str) -> None:
    begin(driver, base, "phone")
    turns = STORIES["医保报销，平铺直叙"]["turns"]
    tell(driver, turns[:8])
    shot(driver, "talk-phone")
    said, filled = texts(driver, "#turns > li"), form(driver)
    load(driver, base)
    assert texts(driver, "#turns > li") == said and form(driver) == filled
    tell(driver, turns[8:-1])
    find(driver, "#fold").click()
    assert find(driver, "#field-total").get_attribute("value") == "12680.5"
    laid_out(driver, "phone")
    sound(driver)
    shot(driver, "form-phone")
    find(driver, "#form .primary").click()
    shot(driver, "confirm-phone")
    laid_out(driver, "phone")
    named(driver, "确认无误，提交").click()
    handed_in(driver)
    shot(driver, "receipt-phone")
    quiet(driver)


@pytest.mark.parametrize(
    ("name", "who", "keys"),
    [
        ("低保，一句话说了好几项", "张秀兰", True),
        ("医保报销，平铺直叙", "杨帆", True),
        ("退休金，一口气都说了", "周国平", False),
    ],
)
def test_the_stories_the_other_way(driver: Any, base: str, name: str, who: str, keys: bool) -> None:
    """Those that were told by mouse, by keyboard alone, and the other way round."""
    begin(driver, base)
    if keys:
        tab_to(driver, ".skip").send_keys(Keys.ENTER)
    tell(driver, STORIES[name]["turns"][:-1], keys=keys)
    for css in ("#form .primary", "dialog .row .primary"):
        tab_to(driver, css).send_keys(Keys.ENTER) if keys else find(driver, css).click()
        if css.startswith("#form"):
            assert who in find(driver, "dialog .check").text
    handed_in(driver)
    quiet(driver)


# ---- what happens on the way


class Wire:
    """Between the browser and the portal: holds back what comes behind some words of an answer, or cuts the line there, once."""

    def __init__(self, port: int) -> None:
        self._to, self._listening = port, socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.hold, self.cut = b"", b""
        self.go = threading.Event()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.go.set()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listening.accept()[0]
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answer: bool) -> None:
        try:
            while data := source.recv(65536):
                if answer and self.cut and self.cut in data:
                    sink.sendall(data[: data.index(self.cut)])
                    self.cut, self.cuts = b"", self.cuts + 1
                    break
                if answer and self.hold and self.hold in data:
                    place = data.index(self.hold)
                    sink.sendall(data[:place])
                    self.go.wait(120)
                    data = data[place:]
                sink.sendall(data)
        except OSError:
            pass  # the other side has gone
        for side in (source, sink):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@contextmanager
def wire(base: str) -> Iterator[Wire]:
    with closing(Wire(int(base.rsplit(":", 1)[1]))) as found:
        yield found


def test_an_answer_is_shown_while_it_comes(driver: Any, base: str) -> None:
    with wire(base) as line:
        begin(driver, line.base)
        line.hold = b"event: end"
        find(driver, "#message").send_keys("低保办下来得多久", Keys.ENTER)
        until(
            driver,
            lambda d: any("承诺" in text or "工作日" in text for text in texts(d, ".hall[aria-busy] .body")),
            "a part of the answer",
        )
        assert not count(driver, ANSWERED)
        until(driver, lambda d: texts(d, "#spoken")[0], "it is read out")
        line.go.set()
        assert "AI 生成" in answered(driver, 0)
    quiet(driver)


def test_a_stream_that_breaks_is_taken_up_again(driver: Any, base: str) -> None:
    with wire(base) as line:
        begin(driver, line.base)
        line.cut = b"event: end"
        text = say(driver, "补个身份证要带啥材料呀")
        assert line.cuts == 1 and "材料" in text
        assert texts(driver, ".mine") == ["我说：\n补个身份证要带啥材料呀"] or count(driver, ".mine") == 1
        turns = len(texts(driver, "#turns > li"))
        load(driver, line.base)
        assert len(texts(driver, "#turns > li")) == turns == 2, "it was taken twice"


def test_a_failure_is_told_and_can_be_tried_again(driver: Any, base: str) -> None:
    begin(driver, base)
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    find(driver, "#message").send_keys("生孩子能报销多少钱", Keys.ENTER)
    assert "网络连接中断" in find(driver, ".hall .problem").text
    laid_out(driver)
    sound(driver)
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**offline, "offline": False})
    named(driver, "重试").click()
    until(driver, lambda d: count(d, ANSWERED) == 1)
    assert count(driver, ".mine") == 1


def test_where_it_stands_is_shown_word_for_word(driver: Any, base: str) -> None:
    begin(driver, base)
    say(driver, "低保要交500元吧？")
    mark = tab_to(driver, ".cite", Keys.SHIFT + Keys.TAB)
    mark.send_keys(Keys.ENTER)
    assert find(driver, "dialog mark").text
    laid_out(driver)
    sound(driver)
    resize(driver, "phone")
    shot(driver, "citation-phone")
    resize(driver, "desk")
    shot(driver, "citation")
    webdriver.ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    until(driver, lambda d: not count(d, "dialog[open]"))
    assert driver.switch_to.active_element == mark
    say(driver, "最低生活保障家庭财产有什么规定？社会救助办法怎么说的")
    article = [e for e in driver.find_elements(By.CSS_SELECTOR, ".hall:last-child .cite")][-1]
    article.click()
    assert "逐字一致" in find(driver, "dialog").text
    named(driver, "关闭").click()
    quiet(driver)


def test_what_is_wrong_in_the_form_is_told_at_the_field(driver: Any, base: str) -> None:
    begin(driver, base)
    tell(driver, STORIES["低保，平铺直叙"]["turns"][:5])
    before = count(driver, ANSWERED)
    find(driver, "#field-id_number").send_keys("430103196204180424", Keys.TAB)
    answered(driver, before)
    field = find(driver, "#field-id_number")
    assert field.get_attribute("aria-invalid") == "true" and field.get_attribute("value") == "430103196204180424"
    told = driver.find_element(By.ID, field.get_attribute("aria-describedby"))
    assert "校验" in told.text and told.is_displayed()
    laid_out(driver, "desk")
    ring = """
        const e = document.activeElement, s = getComputedStyle(e), label = document.querySelector(`label[for=${e.id}]`);
        return e.getBoundingClientRect().top - parseFloat(s.outlineWidth) - parseFloat(s.outlineOffset) - label.getBoundingClientRect().bottom"""
    assert driver.execute_script(ring) >= -1, "the ring around the field covers its label"
    sound(driver)
    shot(driver, "problem")
    before = count(driver, ANSWERED)
    field.send_keys(Keys.BACKSPACE, "1", Keys.ENTER)
    answered(driver, before)
    assert find(driver, "#field-id_number").get_attribute("aria-invalid") is None
    driver.execute_script(
        "const f = fetch; window.fetch = (...a) => f(...a).then((r) => new Promise((done) => setTimeout(() => done(r), 800)))"
    )
    before = count(driver, ANSWERED)
    find(driver, "#field-mobile").send_keys(
        "13973112233", Keys.TAB, "示例市河东"
    )  # goes on writing while the number is being kept
    answered(driver, before)
    webdriver.ActionChains(driver).send_keys("区幸福路12号", Keys.TAB).perform()
    answered(driver, before + 1)
    assert {"mobile": "13973112233", "household_address": "示例市河东区幸福路12号"}.items() <= form(driver).items()
    said = texts(driver, "#turns > li")
    assert said[-2].endswith("（在表格里填写：户籍地址）") and texts(driver, "#spoken > *"), "what was done is not told"
    assert sum(text.endswith("：户籍地址）") for text in said) == 1, "what was half written was sent, too"
    load(driver, base)
    assert texts(driver, "#turns > li") == said
    quiet(driver)


def test_rating_a_person_and_forgetting(driver: Any, base: str) -> None:
    begin(driver, base)
    say(driver, "公积金能提出来租房不")
    named(driver, "没有帮助").click()
    find(driver, "dialog textarea").send_keys("没说要多久")
    laid_out(driver)
    sound(driver)
    named(driver, "提交意见").click()
    until(driver, lambda d: not count(d, "dialog[open]"))
    assert find(driver, '.rate[aria-label="没有帮助"]').get_attribute("aria-pressed") == "true"
    named(driver, "转人工").click()
    find(driver, "#reason").send_keys("房东不肯给合同")
    laid_out(driver)
    sound(driver)
    named(driver, "提交").click()
    until(driver, lambda d: "等待工作人员接入" in find(d, "#notice").text)
    laid_out(driver)
    load(driver, base)
    until(driver, lambda d: "等待工作人员接入" in find(d, "#notice").text)
    assert count(driver, ".hall") == 1
    named(driver, "删除本次对话").click()
    named(driver, "删除").click()
    until(driver, lambda d: d.execute_script("return document.documentElement.dataset.ready") and not count(d, ".hall"))
    load(driver, base)
    assert not count(driver, ".hall") and find(driver, "#start")
    quiet(driver)


def test_large_type_is_remembered(driver: Any, base: str) -> None:
    begin(driver, base)
    size = "return parseFloat(getComputedStyle(document.body).fontSize)"
    small = driver.execute_script(size)
    named(driver, "适老模式").click()
    assert driver.execute_script(size) >= 1.3 * small
    load(driver, base)
    assert driver.execute_script(size) >= 1.3 * small
    laid_out(driver)
    say(driver, "老人怎么认证领养老金")
    laid_out(driver)
    sound(driver)
    resize(driver, "phone")
    shot(driver, "elder-phone")
    resize(driver, "desk")
    shot(driver, "elder")
    named(driver, "适老模式").click()
    load(driver, base)
    assert driver.execute_script(size) == small
    quiet(driver)
