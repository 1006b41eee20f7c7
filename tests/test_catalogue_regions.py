"""The region of a policy document, read from its issuer and its title; or not, where a name leaves a doubt."""

from pathlib import Path

import pytest

from govlm.hall.addresses import Divisions
from govlm.hall.catalogue.documents import import_documents
from govlm.hall.catalogue.records import Document
from govlm.hall.catalogue.regions import recognise

DISTRICTS = "code,name\n440106,天河区\n110105,朝阳区\n220104,朝阳区\n440106017,龙洞街道\n"


@pytest.fixture
def divisions(tmp_path: Path) -> Divisions:
    folder = tmp_path / "divisions"
    folder.mkdir()
    (folder / "districts.csv").write_text(DISTRICTS, encoding="utf-8")
    return Divisions.read(folder)


def document(issuer: str, title: str = "高龄津贴发放办法") -> Document:
    return Document(code="c", title=title, text="t", issuer=issuer)


@pytest.mark.parametrize(
    ("issuer", "title", "code"),
    [
        ("广州市人民政府办公厅", "广州市人民政府办公厅关于发放高龄津贴的通知", "4401"),
        ("广州市公安局、广州市民政局", "关于居住证的通告", "4401"),
        ("广州市城市管理和综合执法局", "垃圾分类办法", "4401"),
        ("", "广州市居住证办理办法", "4401"),
        ("市民政局", "广州市低保办法", "4401"),
        ("", "关于印发《深圳市高龄津贴办法》", "4403"),
        ("广东省广州市民政局", "办法", "4401"),
        ("北京市人民政府", "北京市积分落户办法", "11"),
        ("吉林市民政局", "办法", "2202"),
        ("吉林省民政厅", "办法", "22"),
        ("恩施州民政局", "办法", "4228"),
        ("广州市天河区人民政府", "天河区办法", "440106"),
        ("天河区人民政府", "办法", "440106"),
        ("北京市朝阳区人民政府", "朝阳区办法", "110105"),
    ],
)
def test_a_division_that_is_named_beyond_doubt(issuer: str, title: str, code: str, divisions: Divisions) -> None:
    found = recognise(document(issuer, title), divisions)
    assert found.code == code and "识别为" in found.note and code in found.note


@pytest.mark.parametrize(
    ("issuer", "title", "said"),
    [
        ("朝阳区人民政府", "朝阳区办法", "叫“朝阳区”的地区有2个（北京市朝阳区、吉林省长春市朝阳区）"),
        ("示例市民政局", "示例市办法", "“示例市”不在区划表中"),
        ("广州市海珠区人民政府", "办法", "比区划表细"),  # that gazetteer has one district of the city
        ("广州市天河区龙洞街道办事处", "办法", "比区划表细"),
        ("广东省民政厅、广州市民政局", "办法", "几个地区"),
        ("广州市人民政府", "深圳市民政局关于互认的通知", "几个地区"),
        ("广东省人民政府", "广东省人民政府关于广州市设立服务中心的批复", "广州市"),
        ("襄樊市民政局", "办法", "不是现在的名称"),
        ("广东省长沙市民政局", "办法", "广东省长沙市"),
    ],
)
def test_a_name_that_leaves_a_doubt_is_said_and_not_taken(issuer: str, title: str, said: str, divisions: Divisions) -> None:
    found = recognise(document(issuer, title), divisions)
    assert found.code == "" and said in found.note and "请在导入时给出" in found.note


@pytest.mark.parametrize(
    ("issuer", "title"),
    [
        ("教育部", "关于学籍的通知"),
        ("", "关于学籍的通知"),
        ("广州公积金管理中心", "办法"),
        ("吉林", "吉林高龄津贴办法"),
        ("", "关于做好广州市援助工作的通知"),
        ("", ""),
    ],
)
def test_what_names_no_division_is_not_spoken_of(issuer: str, title: str) -> None:
    assert recognise(document(issuer, title)) == ("", "")


def test_an_import_without_a_region_tells_what_it_recognised(tmp_path: Path, divisions: Divisions) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, organ in (("a", "广州市人民政府办公厅"), ("b", "朝阳区人民政府"), ("c", "国务院")):
        text = f"{organ}关于发放{name}补贴的通知\n第一条 每人每月发{name}补贴。\n{organ}\n2025年3月1日\n"
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    documents, report = import_documents(folder, divisions=divisions)
    assert [entry.region for entry in documents] == ["4401", "", ""]
    assert [(problem.row, problem.text[:4]) for problem in report.of("地区")] == [("a.txt", "识别为广"), ("b.txt", "没有识别")]
    given, report = import_documents(folder, region="31", divisions=divisions)
    assert [entry.region for entry in given] == ["31", "31", ""] and report.of("地区") == []
