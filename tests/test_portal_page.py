"""The citizen's page in a browser: the three stories by mouse, by keyboard, on a phone with a reload; streams that break; who sees badly."""

from __future__ import annotations

from collections.abc import Iterator
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
STORIES = {entry["name"]: entry for entry in yaml.safe_load((Path(__file__).parent / "hall" / "dialogue.yaml").read_text("utf-8"))}
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
    assert "AI 生成" in text and "材料" in text
    box = find(driver, ".materials input")
    box.click()
    laid_out(driver)
    sound(driver)
    resize(driver, "desk")
    shot(driver, "guide")
    turns = STORIES["低保，一句话说了好几项"]["turns"]
    tell(driver, turns[:5])
    assert count(driver, ".steps .done") == 2 and texts(driver, ".steps .current")[0].startswith("表格")
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
    tab_to(driver, "#message") if driver.switch_to.active_element.get_attribute("id") != "message" else None
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
