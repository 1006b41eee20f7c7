"""The login page and the administrator's console in a browser: the loop from a bad question to a checked answer, an import, the rest.

Screenshots are left in $GOVLM_SCREENSHOTS, where that is set.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from portal_server import serving

pytest.importorskip("selenium", reason="the page's tests need selenium")

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from govlm.hall.hall import SAMPLE, Hall
from govlm.portal.latency import bucket
from govlm.portal.operations.usage import Usage
from govlm.portal.security.accounts import Accounts
from govlm.portal.store.questions import note

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() and DRIVER.exists()), reason="chromium and chromium-driver are not installed"
)
WAIT = 120  # seconds; the machine may be doing other work
NAME, PASSWORD = "guanliyuan", "Hutong-2026-qiao"
QUESTION = "低保钱啥时候打到卡上啊"
WIDTHS = (1440, 360)


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(address, the administrator's one-time password) of a portal with a bad question, and with some weeks of use."""
    folder = tmp_path_factory.mktemp("console")
    with serving(folder) as base:
        yield base, _furnished(folder / "portal" / "hall")


def _furnished(folder: Path) -> str:
    now = datetime.now(timezone.utc)
    with Hall.open(folder) as hall:
        database = hall.store.database
        _, password = Accounts(database, hall.vault).create(NAME, ["administrator", "clerk", "auditor"], now)
        for _ in range(3):
            note(hall, "unanswered", QUESTION, "unanswerable", now)
        note(hall, "bad", "居住证过期两个月了还能签注不", "没有说清楚过期怎么办", now)
        for back in range(30):
            day = now - timedelta(days=back)
            usage = Usage(database, hall.writer, clock=lambda day=day: day)
            for place, (name, often) in enumerate(
                {"社会救助": 9, "社会保险": 7, "户籍": 5, "住房公积金": 3, "不动产登记": 1}.items()
            ):
                for _ in range(often + (back * 7 + place) % 4):
                    usage.count("business", name)
                    usage.count("turn", "refused" if (back + place) % 9 == 0 else "answered")
                    usage.count("latency_class", bucket(20 + (back * 13 + place * 29) % 140))
            for place in range(5):
                usage.count("rating", "down" if (back + place) % 5 == 0 else "up")
            for _ in range(back % 3):
                usage.count("handoff", "")
            usage.close()
    return password


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--force-device-scale-factor=1", "--lang=zh-CN"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    driver.set_page_load_timeout(WAIT)
    try:
        yield driver
    finally:
        driver.quit()


def wide(browser: Any, width: int, height: int = 900) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def until(browser: Any, condition: Any) -> Any:
    return WebDriverWait(browser, WAIT, ignored_exceptions=[StaleElementReferenceException]).until(condition)


def find(browser: Any, css: str) -> Any:
    return until(browser, lambda b: next((e for e in b.find_elements(By.CSS_SELECTOR, css) if e.is_displayed()), None))


def named(browser: Any, text: str, tag: str = "button") -> Any:
    """The button, or another element, that is called so."""
    return until(
        browser,
        lambda b: next(
            (e for e in b.find_elements(By.TAG_NAME, tag) if e.is_displayed() and text in (e.accessible_name, e.text.strip())),
            None,
        ),
    )


def shows(browser: Any, text: str) -> None:
    until(browser, lambda b: text in b.find_element(By.TAG_NAME, "body").text)


def press(browser: Any, element: Any) -> None:
    """By the keyboard."""
    until(browser, lambda b: element.is_enabled())
    browser.execute_script("arguments[0].focus()", element)
    assert element == browser.switch_to.active_element
    webdriver.ActionChains(browser).send_keys(Keys.ENTER).perform()


def shot(browser: Any, name: str) -> None:
    """The whole page, at every width; nothing may stand out at the side."""
    for width in WIDTHS:
        wide(browser, width)
        over = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{name} at {width} px is {over} px too wide"
        if folder := os.environ.get("GOVLM_SCREENSHOTS"):
            browser.execute_async_script(f"{STILL}.then(arguments[arguments.length - 1])")
            height = browser.execute_script("return document.documentElement.scrollHeight")
            wide(browser, width, max(640, height))
            Path(folder, f"console-{name}-{width}.png").write_bytes(browser.get_screenshot_as_png())
    wide(browser, WIDTHS[0])


# a colour half-way to another is neither: what changes by and by has come to its end
STILL = "Promise.allSettled(document.getAnimations().map((a) => a.finished))"


def sound(browser: Any) -> None:
    """axe finds nothing serious, and nothing was refused by the content security policy."""
    spec = find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.fail("axe is not installed: pip install axe-playwright-python")
    script = next(Path(spec.origin).parent.rglob("axe.min.js")).read_text("utf-8")
    for width in WIDTHS:
        wide(browser, width)
        browser.execute_script(script)
        found = browser.execute_async_script(
            f"{STILL}.then(() => axe.run(document, {{resultTypes: ['violations']}})).then(arguments[arguments.length - 1])"
        )
        serious = [
            (v["id"], n["html"][:200], n.get("failureSummary", "")[:300])
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
            for n in v["nodes"]
        ]
        assert not serious, serious
    wide(browser, WIDTHS[0])
    told = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [text for text in told if "Failed to load resource" not in text], (
        told
    )  # a script's error, or what the policy refused


@pytest.fixture(scope="module")
def console(browser: Any, portal: tuple[str, str]) -> Any:
    """The browser, logged in."""
    base, password = portal
    wide(browser, WIDTHS[0])
    browser.get(f"{base}/console")
    until(browser, lambda b: "/login" in b.current_url)  # nobody sees it without
    find(browser, "#name").send_keys(NAME)
    find(browser, "#password").send_keys("wrong-password-1")
    press(browser, named(browser, "登录"))
    shows(browser, "账号或密码不正确")
    sound(browser)
    shot(browser, "login")
    browser.refresh()
    find(browser, "#name").send_keys(NAME)
    find(browser, "#password").send_keys(password)
    press(browser, named(browser, "登录"))
    find(browser, "#new").send_keys(PASSWORD)
    find(browser, "#again").send_keys("another-Word-7")
    press(browser, named(browser, "保存并继续"))
    shows(browser, "两次输入的新密码不一样")
    sound(browser)
    shot(browser, "password")
    find(browser, "#again").clear()
    find(browser, "#again").send_keys(PASSWORD)
    press(browser, named(browser, "保存并继续"))
    find(browser, "#nav a")
    return browser


def section(browser: Any, title: str) -> None:
    press(browser, named(browser, title, "a"))
    until(browser, lambda b: title in [e.text for e in b.find_elements(By.TAG_NAME, "h1")])


def test_a_question_becomes_an_answer_and_a_case(console: Any) -> None:
    section(console, "待改进问题")
    shows(console, "问过 3 次")
    sound(console)
    shot(console, "questions")
    press(console, named(console, f"回答：{QUESTION}"))
    press(console, named(console, "最低生活保障申请"))
    shows(console, "从《最低生活保障申请》里选")
    box = find(console, "#record input[data-key*=phones]")
    console.execute_script("arguments[0].focus()", box)
    box.send_keys(Keys.SPACE)
    shows(console, "《最低生活保障申请》 电话")
    find(console, "#editor textarea").send_keys("低保的钱几号到账")
    sound(console)
    shot(console, "answer")
    press(console, find(console, "#save"))
    find(console, "#saved")
    shows(console, "回归用例 2 个，全部通过")
    sound(console)
    shot(console, "saved")
    press(console, named(console, "好"))
    press(console, find(console, "#regression"))
    until(console, lambda b: "全部通过" in b.find_element(By.CSS_SELECTOR, "[role=status] .outcome").text)
    assert named(console, f"撤下：{QUESTION}")
    assert not [e for e in console.find_elements(By.TAG_NAME, "button") if e.accessible_name == f"回答：{QUESTION}"]


def test_a_file_is_seen_before_it_is_published(console: Any, tmp_path: Path) -> None:
    section(console, "目录与政策")
    known = [json.loads(line) for line in (SAMPLE / "items.jsonl").read_text("utf-8").splitlines()]
    (card,) = (item for item in known if item["name"] == "居民身份证补领")
    card.pop("form", None)
    card["materials"][0]["note"] = "示例市以外的户籍也要带"
    items = [
        {"code": "sl-ty-001", "name": "皮划艇场地预约", "authority": "示例市体育局", "fee": "每小时20元", "conditions": ["会游泳", "年满十四周岁"]},
        {**card, "fee": "工本费每证45元"}, {"code": "x", "authority": "没有名称"},
    ]  # fmt: skip
    file = tmp_path / "七月更新.jsonl"
    file.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), "utf-8")
    find(console, "input[name=files]").send_keys(str(file))
    press(console, named(console, "读取并预览"))
    shows(console, "预览：七月更新.jsonl")
    shows(console, "工本费每证45元")
    shows(console, "跳过 1")
    sound(console)
    shot(console, "import")
    press(console, find(console, "#publish"))
    find(console, "dialog[open]")
    press(console, find(console, "#ask-yes"))
    shows(console, "已发布，新的内容已经生效")
    sound(console)
    shot(console, "published")
    wrong = tmp_path / "程序.csv"
    wrong.write_bytes(b"MZ\x90\x00" * 100)
    find(console, "input[name=files]").send_keys(str(wrong))
    press(console, named(console, "读取并预览"))
    shows(console, "内容不是可以导入的类型")


def test_usage_is_drawn_and_told(console: Any) -> None:
    section(console, "用量")
    shows(console, "问得最多的是社会救助")
    assert len(until(console, lambda b: b.find_elements(By.CSS_SELECTOR, "svg.chart[role=img]"))) == 5
    for width in WIDTHS:  # drawn for the width: the letters stay readable
        wide(console, width)
        until(console, lambda b: b.execute_script(
            "return [...document.querySelectorAll('.chart text')].every((e) => e.getBoundingClientRect().height > 11)"
        ))  # fmt: skip
    sound(console)
    shot(console, "usage")
    press(console, named(console, "看数据表", "summary"))
    find(console, "figure table")


def test_the_switch_asks_first(console: Any, portal: tuple[str, str]) -> None:
    section(console, "开关")
    find(console, "#reason-chat").send_keys("目录正在核对")
    press(console, find(console, "#turn-chat"))
    find(console, "dialog[open]")
    shot(console, "confirm")
    press(console, named(console, "取消"))
    shows(console, "正在服务")
    press(console, find(console, "#turn-chat"))
    press(console, find(console, "#ask-yes"))
    shows(console, "已关闭")
    sound(console)
    shot(console, "switch")
    find(console, "#reason-chat").send_keys("核对完了")
    press(console, find(console, "#turn-chat"))
    press(console, find(console, "#ask-yes"))
    shows(console, "智能问答已开启")


def test_accounts_and_keys(console: Any) -> None:
    section(console, "账号与密钥")
    press(console, named(console, "新建账号", "summary"))
    find(console, "#new-account").send_keys("kefu-01")
    find(console, "input[name=roles][value=clerk]").click()
    shot(console, "accounts")
    press(console, named(console, "新建账号"))
    shows(console, "kefu-01 的一次性密码")
    sound(console)
    shot(console, "account")
    press(console, named(console, "签发密钥", "summary"))
    find(console, "#new-key").send_keys("便民服务网")
    find(console, "input[name=scopes][value=chat]").click()
    press(console, named(console, "签发密钥"))
    shows(console, "密钥 便民服务网")
    press(console, named(console, "吊销 便民服务网"))
    press(console, find(console, "#ask-yes"))
    shows(console, "已吊销")


def test_the_audit_is_read_and_verified(console: Any) -> None:
    section(console, "审计")
    press(console, find(console, "#verify"))
    shows(console, "完整")
    told = find(console, "main [role=status]").text
    assert not re.search("[a-z]{4}", re.sub(r"链 [0-9a-zT-]+", "", told)), told  # all of it is for people here
    find(console, "input[placeholder='如 account']").send_keys("import")
    press(console, named(console, "查询"))
    shows(console, "import.publish")
    until(console, lambda b: b.find_elements(By.CSS_SELECTOR, "main table tbody tr"))
    high = "return [...document.querySelectorAll('tbody .whole')].map((e) => e.getClientRects().length)"
    assert set(console.execute_script(high)) == {1}, "a time or the name of an action is broken in two"
    sound(console)
    shot(console, "audit")


def test_a_clerk_answers_a_request(console: Any, portal: tuple[str, str]) -> None:
    with httpx.Client(base_url=portal[0], trust_env=False, timeout=WAIT) as citizen:
        session = citizen.post("/v1/sessions").json()["id"]
        assert citizen.post(f"/v1/sessions/{session}/turns", json={"text": "办低保要带啥材料"}).status_code == 200
        wanted = {"reason": "我妈情况特殊，想跟人说", "contact": "0000-80011"}
        assert citizen.post(f"/v1/sessions/{session}/handoff", json=wanted).status_code == 200
        section(console, "人工服务")
        shows(console, "我妈情况特殊")
        press(console, until(console, lambda b: next(e for e in b.find_elements(By.CSS_SELECTOR, "main td button"))))
        shows(console, "办低保要带啥材料")
        press(console, find(console, "#take"))
        until(console, lambda b: not b.find_elements(By.ID, "take"))
        find(console, "#reply").send_keys("您好，请带上诊断证明到窗口来。")
        press(console, find(console, "#send"))
        shows(console, "已回复")
        sound(console)
        shot(console, "handoff")
        told = citizen.get(f"/v1/sessions/{session}/handoff").json()
        assert [reply["text"] for reply in told["replies"]] == ["您好，请带上诊断证明到窗口来。"]
        press(console, find(console, "#close"))
        until(console, lambda b: not b.find_elements(By.ID, "reply"))
        assert citizen.get(f"/v1/sessions/{session}/handoff").json()["status"] == "closed"


def test_logging_out_closes_the_console(console: Any, portal: tuple[str, str]) -> None:
    press(console, named(console, "退出登录"))
    until(console, lambda b: "/login" in b.current_url)
    console.get(f"{portal[0]}/console")
    until(console, lambda b: "/login" in b.current_url)
