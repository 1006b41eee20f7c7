"""What a document says in short, on the citizen's page: its own sentences, or a generator's where the hall has one, each with its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from portal_server import free_port, threaded

pytest.importorskip("selenium", reason="tests of pages need selenium")

from portal_browser import NEEDED, browser, find, laid_out, named, quiet, resize, shot, sound, texts, until
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from govlm.hall.generator.phrasing import Phraser
from govlm.hall.policy.interpretation import QUESTIONS, interpret
from govlm.portal.settings import Settings

pytestmark = NEEDED
BUTTON, MEANING = "这份文件讲了什么？", "谁能享受、怎么办、多少钱？"


class Polite:
    """A generator that says each source again after a polite word."""

    def write(self, messages: Any, *, sources: Any, names: Any, most: int, seconds: float, given_up: Any) -> str:
        return "\n".join(f"请您看：{source}" for source in sources)


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    settings = Settings(data=tmp_path_factory.mktemp("gist") / "portal", port=free_port())
    with threaded(settings) as app:
        yield app.state.portal


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found


def begin(driver: Any, portal: Any) -> None:
    resize(driver, "desk")
    driver.get(f"http://127.0.0.1:{portal.settings.port}")
    driver.execute_script("localStorage.clear()")
    driver.get(f"http://127.0.0.1:{portal.settings.port}")
    until(driver, lambda d: d.execute_script("return document.documentElement.dataset.ready"), "the page is ready")
    find(driver, "#policies button")


def opened(driver: Any, title: str = "示例市高龄津贴发放办法") -> list[str]:
    """The lines of the summary of a document of the first page."""
    driver.find_element(By.XPATH, f"//b[.='{title}']").click()
    until(driver, lambda d: texts(d, "#gist li"), "a summary")
    assert named(driver, BUTTON).get_attribute("aria-expanded") == "true"
    return texts(driver, "#gist li")


def test_a_summary_in_the_documents_own_sentences(driver: Any, portal: Any) -> None:
    begin(driver, portal)
    shot(driver, "policies")
    laid_out(driver)
    sound(driver)
    lines = opened(driver)
    assert texts(driver, "dialog .check dd")[:2] == ["示府规〔2025〕7号", "2025-06-01"]
    everything = "".join(document.text for document in portal.hall.library.documents.values())
    for line in lines:
        text, _, number = line.rpartition("[")
        assert text.strip() in everything and number.rstrip("]").isdigit(), line
    note = texts(driver, ".gist .small")[0]
    assert "AI 生成" in note and "摘自原文" in note
    laid_out(driver)
    sound(driver)
    shot(driver, "gist")
    driver.execute_script("document.documentElement.classList.add('elder')")
    laid_out(driver)
    driver.execute_script("document.documentElement.classList.remove('elder')")
    driver.find_elements(By.CSS_SELECTOR, "#gist .cite")[-1].click()  # and each sentence shows where it stands
    until(driver, lambda d: not d.find_elements(By.CSS_SELECTOR, "#gist li"))
    assert texts(driver, "dialog mark")[-1].split("\n")[0] in lines[-1]
    button = named(driver, BUTTON)
    assert button.get_attribute("aria-expanded") == "false"
    button.send_keys(Keys.ENTER)
    until(driver, lambda d: texts(d, "#gist li") == lines, "the same summary")
    assert driver.switch_to.active_element == button, "the focus got lost"
    button.send_keys(Keys.ENTER)
    until(driver, lambda d: lines[0] not in find(d, ".gist").text)
    quiet(driver)


def test_what_a_document_says_to_each_question(driver: Any, portal: Any) -> None:
    begin(driver, portal)
    opened(driver)
    button = named(driver, MEANING)
    button.send_keys(Keys.ENTER)
    until(driver, lambda d: texts(d, "#meaning h3"), "the questions")
    assert texts(driver, "#meaning h3")[: len(QUESTIONS)] == list(QUESTIONS.values())
    answers = driver.find_elements(By.CSS_SELECTOR, "#meaning h3 + *")
    document = portal.hall.library.documents["示府规〔2025〕7号"]
    found = interpret(document)
    for name, answer in zip(QUESTIONS, answers, strict=False):
        points = found.points(name)
        if not points:
            assert answer.text == "原文未提及。", name
        lines = [line.text.rpartition("[")[0].strip() for line in answer.find_elements(By.TAG_NAME, "li")]
        assert "".join(lines).split() == "".join(point.text for point in points).split(), name
    assert "AI 生成" in texts(driver, "#meaning .small")[0]
    assert texts(driver, "#meaning dt") == [term.text for term in found.terms]
    laid_out(driver)
    sound(driver)
    shot(driver, "meaning")
    driver.find_elements(By.CSS_SELECTOR, "#meaning .cite")[0].click()
    until(driver, lambda d: texts(d, "dialog mark"), "where it stands")
    quiet(driver)
    resize(driver, "phone")
    laid_out(driver)


def test_a_summary_in_plain_words_where_there_is_a_generator(driver: Any, portal: Any) -> None:
    portal.hall.phraser = Phraser(Polite())
    try:
        begin(driver, portal)
        lines = opened(driver)
        note = texts(driver, ".gist .small")[0]
    finally:
        portal.hall.phraser = None
    assert all(line.startswith("请您看：") and line.endswith("]") for line in lines), lines
    assert "AI 生成" in note and "平常的话" in note and "以原文为准" in note
    sound(driver)
    resize(driver, "phone")
    shot(driver, "gist-phone")
    laid_out(driver)
    quiet(driver)


def test_a_summary_that_does_not_come_can_be_asked_for_again(driver: Any, portal: Any) -> None:
    begin(driver, portal)
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/summary"]})
    try:
        find(driver, "#policies button").click()
        assert "网络" in find(driver, "#gist .problem").text
    finally:
        driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    named(driver, BUTTON).click()
    named(driver, BUTTON).click()
    until(driver, lambda d: texts(d, "#gist li"), "a summary")
    driver.get_log("browser")


def test_a_document_that_is_not_in_force_says_so(driver: Any, portal: Any) -> None:
    begin(driver, portal)
    assert portal.hall.library.documents["示府规〔2020〕5号"].valid_to is not None
    opened(driver, "示例市高龄津贴发放办法（2020年）")
    assert "没有施行" in texts(driver, "dialog .problem")[0]
    laid_out(driver)
    sound(driver)
