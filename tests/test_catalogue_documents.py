"""Policy documents: read from five formats, dated, and cut so that every character of the body has a citable place."""

import gzip
import itertools
import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_corpus import make_pdf

from govlm.hall.catalogue.documents import export_documents, import_documents, make_document, read_document
from govlm.hall.catalogue.heads import in_force, number_of, parse_date
from govlm.hall.catalogue.passages import cut, numeral, top
from govlm.hall.catalogue.records import Document
from govlm.hall.catalogue.report import CatalogueError

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
NUMBERS = "一二三四五六七八九十"

ORDER = """某市食堂管理办法

（2023年2月28日和平市人民政府令第12号公布 自2023年5月1日起施行）

第一章 总则

第一条 为了管好食堂，制定本办法。

第二条 食堂应当符合下列条件：
（一）有证照；
（二）有专人：
1.厨师；
2.保洁员。

食堂不得转包。

第二章　监督

第三条 市商务局每年检查一次。检查结果公开：（一）合格；（二）不合格。

第四条 本办法自2023年5月1日起施行，有效期3年。

附件：食堂登记表
表一 基本情况
"""


def text_of(document: Document, name: str) -> str:
    (passage,) = [passage for passage in document.passages if passage.id == name]
    return document.text[passage.start : passage.end]


def ids(document: Document) -> list[str]:
    return [passage.id for passage in document.passages]


def left_over(document: Document) -> list[str]:
    """The lines that stand in no passage; fails where passages overlap or are out of order."""
    at, found = 0, []
    for passage in top(document.passages):
        assert at <= passage.start < passage.end
        found.append(document.text[at : passage.start])
        at = passage.end
    found.append(document.text[at:])
    return [line for part in found for line in part.split("\n") if line.strip()]


# ---- cut -------------------------------------------------------------------------------------------------------------


def test_an_order_is_cut_into_articles_paragraphs_and_items() -> None:
    document = make_document(ORDER, source="办法.txt")
    assert ids(document) == [
        "段1", "第一条", "第二条", "第二条/1", "第二条/1/一", "第二条/1/二", "第二条/2", "第三条", "第三条/1/一", "第三条/1/二",
        "第四条", "段2", "段3",
    ]  # fmt: skip
    assert text_of(document, "第二条").startswith("第二条 食堂") and text_of(document, "第二条").endswith("不得转包。")
    assert text_of(document, "第二条/1/二") == "（二）有专人：\n1.厨师；\n2.保洁员。"
    assert text_of(document, "第二条/2") == "食堂不得转包。"
    assert text_of(document, "第三条/1/一") == "（一）合格；" and text_of(document, "段2") == "附件：食堂登记表"
    assert {passage.id: passage.heading for passage in top(document.passages)}["第三条"] == "第二章　监督"
    assert left_over(document) == ["某市食堂管理办法", "第一章 总则", "第二章　监督"]


def test_what_an_order_says_of_itself() -> None:
    document = make_document(ORDER, source="办法.txt")
    assert document.title == "某市食堂管理办法" and document.code == document.number == "和平市人民政府令第12号"
    assert (document.issuer, document.level) == ("和平市人民政府", "市级")
    assert document.issued == date(2023, 2, 28)
    assert (document.valid_from, document.valid_to) == (date(2023, 5, 1), date(2026, 4, 30))


def test_ids_stay_when_an_article_is_put_in_elsewhere() -> None:
    before = make_document(ORDER)
    after = make_document(ORDER.replace("第二章　监督", "第二条之一 食堂每天留样。\n\n第二章　监督"))
    assert ids(after) == [*ids(before)[:7], "第二条之一", *ids(before)[7:]]
    for name in ids(before):
        assert text_of(after, name) == text_of(before, name)


def test_an_annex_that_counts_anew_gets_ids_of_its_own() -> None:
    text = "通知\n第一条 甲。\n第二条 乙。\n附件：细则\n第一条 丙。\n（一）丁；\n（二）戊。"
    document = make_document(text, title="通知")
    assert ids(document) == ["第一条", "第二条", "段1", "第一条~2", "第一条~2/1/一", "第一条~2/1/二"]


def test_numbers_in_every_writing() -> None:
    assert [numeral(text) for text in ("一", "十", "十二", "二十", "一百零三", "一百二十", "一千二百六十", "〇", "12", "１２", "二〇二四")] == [
        1, 10, 12, 20, 103, 120, 1260, 0, 12, 12, 2024,
    ]  # fmt: skip
    assert numeral("甲") is None and numeral("") is None
    document = make_document("第1条 甲。\n第 ２ 条　乙。\n第三条：丙。\n第四条\n丁。\n第五条【标题】戊。\n第六条己。")
    assert ids(document) == ["第1条", "第2条", "第三条", "第四条", "第四条/1", "第四条/2", "第五条", "第六条"]


def test_an_article_that_is_only_mentioned_does_not_begin_one() -> None:
    text = "第一条 依照下列规定：\n第三条规定的情形；\n第二条第二款的情形。\n第二条 第一款的情形除外。\n第九条 完。"
    assert [passage.id for passage in top(cut(text))] == ["第一条", "第九条"]


def test_a_notice_is_cut_into_paragraphs_under_its_headings() -> None:
    text = "关于供暖的通知\n各区：\n一、时间\n11月15日起供暖。\n（一）市区；\n二、费用\n按面积计算。\n第一部分 其他\n没有了。"
    document = make_document(text)
    assert [(passage.id, passage.heading) for passage in document.passages] == [
        ("段1", ""), ("段2", "一、时间"), ("段3", "一、时间"), ("段4", "二、费用"), ("段5", "第一部分 其他"),
    ]  # fmt: skip
    assert left_over(document) == ["关于供暖的通知", "一、时间", "二、费用", "第一部分 其他"]


def test_the_running_head_of_a_page_cuts_no_article() -> None:
    document = make_document("食堂办法\n第一条 甲：\n（一）乙；\n食堂办法\n（二）丙。\n第二条 丁。", title="食堂办法")
    assert ids(document) == ["第一条", "第一条/1/一", "第一条/1/二", "第二条"]


def test_a_number_without_end_is_none() -> None:
    document = make_document("第" + "9" * 9000 + "条 甲。\n第一条 乙。")
    assert ids(document) == ["段1", "第一条"]


LINES = st.sampled_from(
    ["第一条 甲。", "第二条乙。", "第三条　丙：", "（一）丁；", "（二）戊。", "1.己", "庚。", "", "  ", "第一章 总则", "第二节 分则", "一、辛", "附件：壬",
     "第一条规定的。", "标题", "第十条", "：（一）癸（二）", "第百条", "第条", "\u3000\u3000子", "丑\r", "\x85寅", "👍", "第二条之一 卯"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(lines=st.lists(LINES, max_size=25), separator=st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_any_text_is_tiled_and_ids_are_unique(lines: list[str], separator: str) -> None:
    document = make_document(separator.join(lines), title="标题")
    assert len(set(ids(document))) == len(document.passages)
    for line in left_over(document):
        assert re.fullmatch(r"标题|第[一二三四五六七八九十百]+[章节].*|一、辛", line), line
    parents = {passage.id: passage for passage in document.passages}
    for passage in document.passages:
        piece = document.text[passage.start : passage.end]
        assert piece and piece == piece.strip()
        if "/" in passage.id:
            article = parents[passage.id.split("/")[0]]
            assert article.start <= passage.start < passage.end <= article.end


# ---- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("穗府办规〔2024〕13号", "穗府办规〔2024〕13号"),
        ("某府办[2024]7号", "某府办〔2024〕7号"),
        ("某府办［２０２４］第 07 号", "某府办〔2024〕7号"),
        ("（某民发(2019)30号）", "某民发〔2019〕30号"),
        ("某民规【2020】5号", "某民规〔2020〕5号"),
        ("中华人民共和国国务院令第258号", "国务院令第258号"),
        ("某市人民政府令 第 一百七十九 号", "某市人民政府令第179号"),
        ("根据《关于食堂的通知》（某府〔2020〕1号）", ""),
        ("2024年13号", ""),
        ("没有文号", ""),
    ],
)
def test_numbers_of_documents(line: str, number: str) -> None:
    assert number_of(line) == number


def test_dates() -> None:
    assert (
        parse_date("2024年7月26日")
        == parse_date("二〇二四年七月二十六日")
        == parse_date("2024-07-26 11:00")
        == date(2024, 7, 26)
    )
    assert parse_date("２０２４年 ７月 ６ 日") == date(2024, 7, 6)
    assert parse_date("2024年2月30日") is None and parse_date("去年") is None


@pytest.mark.parametrize(
    ("text", "issued", "begin", "end"),
    [
        ("本办法自2024年2月29日起施行，有效期1年。", None, date(2024, 2, 29), date(2025, 2, 28)),
        ("本通知自印发之日起施行，有效期5年。", date(2024, 7, 26), date(2024, 7, 26), date(2029, 7, 25)),
        ("本通知自印发之日起施行，有效期5年。", None, None, None),
        ("本办法自2024年1月31日起试行，有效期十八个月。", None, date(2024, 1, 31), date(2025, 7, 30)),
        ("本办法自2024年8月31日起施行，有效期18个月。", None, date(2024, 8, 31), date(2026, 2, 28)),
        ("本通告自发布之日起实施，有效期至2026年12月31日。", date(2025, 6, 30), date(2025, 6, 30), date(2026, 12, 31)),
        ("本规则自2001年8月1日零时起施行。", None, date(2001, 8, 1), None),
        ("本条例自2019年3月1日施行。", None, date(2019, 3, 1), None),
        ("居住证有效期5年。《旧办法》自2001年1月1日起施行。", date(2024, 1, 1), None, None),
        (
            "本办法所称食堂，是指……。\n第九条 本办法自二〇二四年三月一日起施行。《旧办法》同时废止。",
            None,
            date(2024, 3, 1),
            None,
        ),
    ],
)
def test_dates_in_force(text: str, issued: date | None, begin: date | None, end: date | None) -> None:
    assert in_force(text, issued) == (begin, end)


def test_a_notice_with_a_signature() -> None:
    text = (
        "某市民政局关于发放\n补贴的通知\n某民规〔2024〕8号\n各区民政局：\n现就发放补贴通知如下。\n一、标准\n每月100元。\n"
        "本通知自2024年9月1日起执行。\n某市民政局\n某市财政局\n2024年8月20日\n"
    )
    document = make_document(text, source="通知.txt")
    assert document.title == "某市民政局关于发放补贴的通知" and document.number == "某民规〔2024〕8号"
    assert document.issuer == "某市民政局、某市财政局" and document.issued == date(2024, 8, 20)
    assert document.valid_from == date(2024, 9, 1) and document.valid_to is None


def test_an_amended_law_is_in_force_in_this_wording_since_it_was_amended() -> None:
    text = (
        "食堂法\n2001年3月1日 第九届全国人民代表大会常务委员会第二十次会议通过\n"
        "2015年4月24日 第十二届全国人民代表大会常务委员会第十四次会议《关于修改〈消防法〉等三部法律的决定》修正\n"
        "第一条 甲。\n第二条 本法自2001年7月1日起施行。"
    )
    document = make_document(text)
    assert document.issued == document.valid_from == date(2015, 4, 24) and document.issuer == "全国人民代表大会常务委员会"
    assert document.code == "食堂法" and document.level == "国家级"


def test_a_region_is_recognised_where_none_is_given_and_reported(tmp_path: Path) -> None:
    text = "{}人民政府办公厅关于高龄津贴的通知\n第一条 每人每月100元。\n{}人民政府办公厅\n2025年3月1日\n"
    for name in ("广州市", "朝阳区"):
        (tmp_path / f"{name}.txt").write_text(text.format(name, name), encoding="utf-8")
    documents, report = import_documents(tmp_path)
    assert {document.issuer: document.region for document in documents} == {
        "广州市人民政府办公厅": "4401",
        "朝阳区人民政府办公厅": "",
    }
    told = {problem.row: problem.text for problem in report.of("地区")}
    assert "识别为广州市（4401）" in told["广州市.txt"] and "没有识别" in told["朝阳区.txt"]
    documents, report = import_documents(tmp_path, region="440106")
    assert {document.region for document in documents} == {"440106"} and not report.of("地区")
    export_documents(documents := [replace(document, region="") for document in documents], tmp_path / "all.jsonl")
    again, report = import_documents(tmp_path / "all.jsonl")
    assert [document.region for document in again] == ["", ""]  # a record says itself where it holds


# ---- files -----------------------------------------------------------------------------------------------------------


def word_file(path: Path, text: str) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    for line in text.split("\n"):
        document.add_paragraph(line)
    document.save(str(path))


W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def numbered_word_file(path: Path, lines: list[tuple[str, int | None]], extra: str = "") -> None:
    """Paragraphs (text, level of the list or None); level 0 is 第一条, 1 is （一）, 2 is 1., 3 a bullet. extra: in w:num of the list."""
    docx = pytest.importorskip("docx")
    from docx.oxml import parse_xml

    document = docx.Document()
    root = document.part.numbering_part.element
    shapes = [("chineseCountingThousand", "第%1条"), ("chineseCounting", "（%2）"), ("decimal", "%3."), ("bullet", "●")]
    levels = "".join(
        f'<w:lvl w:ilvl="{i}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{text}"/></w:lvl>'
        for i, (kind, text) in enumerate(shapes)
    )
    root.insert(0, parse_xml(f'<w:abstractNum xmlns:w="{W}" w:abstractNumId="77">{levels}</w:abstractNum>'))
    for number, inner in (("70", ""), ("71", extra)):
        root.append(parse_xml(f'<w:num xmlns:w="{W}" w:numId="{number}"><w:abstractNumId w:val="77"/>{inner}</w:num>'))
    style = document.styles.add_style("条", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    style.element.get_or_add_pPr().append(parse_xml(f'<w:numPr xmlns:w="{W}"><w:numId w:val="70"/></w:numPr>'))
    for text, level in lines:
        paragraph = document.add_paragraph(text, style="条" if level == 0 else None)
        if level:
            which = "71" if text.startswith("另") else "70"
            paragraph._p.get_or_add_pPr().append(
                parse_xml(f'<w:numPr xmlns:w="{W}"><w:ilvl w:val="{level}"/><w:numId w:val="{which}"/></w:numPr>')
            )
    document.save(str(path))


def test_numbers_that_word_counts_itself_are_in_the_text(tmp_path: Path) -> None:
    lines: list[tuple[str, int | None]] = [
        ("某市食堂管理办法", None), ("为了管理食堂，制定本办法。", 0), ("申请时提交：", 0), ("身份证；", 1), ("户口簿。", 1), ("原件", 2), ("复印件", 2),
        ("一点", 3), ("食堂不得转包：", 0), ("转租也不行。", 1), ("", 0), ("另行规定。", 1),
    ]  # fmt: skip
    path = tmp_path / "a.docx"
    numbered_word_file(path, lines, '<w:lvlOverride w:ilvl="1"><w:startOverride w:val="9"/></w:lvlOverride>')
    document = read_document(path)
    assert [line for line in document.text.split("\n") if line] == [
        "某市食堂管理办法", "第一条 为了管理食堂，制定本办法。", "第二条 申请时提交：", "（一）身份证；", "（二）户口簿。", "1.原件", "2.复印件", "一点",
        "第三条 食堂不得转包：", "（一）转租也不行。", "（九）另行规定。",
    ]  # fmt: skip
    assert {"第一条", "第二条", "第三条"} <= {passage.id for passage in document.passages}


def test_the_hundredth_article_of_a_word_file(tmp_path: Path) -> None:
    numbered_word_file(tmp_path / "a.docx", [(f"内容{i}。", 0) for i in range(1, 121)])
    text = read_document(tmp_path / "a.docx").text
    for wanted in (
        "第十条 内容10。",
        "第十一条 内容11。",
        "第二十条 内容20。",
        "第一百条 内容100。",
        "第一百零五条 内容105。",
        "第一百一十条 内容110。",
    ):
        assert wanted in text


def test_one_document_in_five_formats(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    pytest.importorskip("pypdf")
    (tmp_path / "a.txt").write_text(ORDER, encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(ORDER.replace("\n", "\r\n").encode("gb18030"))
    marked = (
        ORDER.replace("第一章", "## 第一章").replace("第二章", "## 第二章").replace("某市食堂管理办法", "# 某市食堂管理办法", 1)
    )
    (tmp_path / "c.md").write_text("---\nlayout: x\n---\n" + marked, encoding="utf-8")
    word_file(tmp_path / "d.docx", ORDER)
    body = "".join(f"<p>{line}</p>" for line in ORDER.split("\n") if line.strip())
    head = '<meta name="ArticleTitle" content="某市食堂管理办法"><meta name="PubDate" content="2023-03-01 09:00">'
    (tmp_path / "e.html").write_text(
        f"<html><head>{head}</head><body><article>{body}</article></body></html>", encoding="utf-8"
    )
    (tmp_path / "f.pdf").write_bytes(make_pdf([[line for line in ORDER.split("\n") if line.strip()]]))
    wanted = make_document(ORDER)
    for name in ("a.txt", "b.txt", "c.md", "d.docx", "e.html", "f.pdf"):
        document = read_document(tmp_path / name)
        assert [passage.id for passage in document.passages] == [passage.id for passage in wanted.passages], name
        for field in ("title", "number", "issuer", "issued", "valid_from", "valid_to"):
            assert getattr(document, field) == getattr(wanted, field), (name, field)
        assert document.source == name
        assert text_of(document, "第二条/2") == "食堂不得转包。"
    documents, report = import_documents(tmp_path)
    assert report.rows == 6 and report.imported == len(documents) and report.imported + report.skipped == 6
    assert sum(problem.kind == "重复" for problem in report.problems) == 5


def test_the_links_under_a_page_go_and_a_list_stays(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    body = "<p>第一条 申请时请带齐下列材料，缺少材料的一次告知需要补正的全部内容。</p>"
    papers = "".join(f"<li>材料{i}</li>" for i in range(12))
    links = "".join(f"<p>· 某部门{i}</p>" for i in range(12))
    for name, tail in (("a.html", f"<ul>{papers}</ul>"), ("b.html", links)):
        (tmp_path / name).write_text(f"<html><body><article>{body}{tail}</article></body></html>", encoding="utf-8")
    assert "材料11" in read_document(tmp_path / "a.html").text
    assert "某部门" not in read_document(tmp_path / "b.html").text


def test_headings_of_markdown_are_headings(tmp_path: Path) -> None:
    path = tmp_path / "攻略.md"
    path.write_text("# 办事攻略\n\n## 怎么办\n\n先预约。\n\n- 带身份证\n\n## 附则\n\n完。\n", encoding="utf-8")
    document = read_document(path)
    assert document.title == "办事攻略"
    assert [(passage.id, passage.heading) for passage in document.passages] == [
        ("段1", "怎么办"),
        ("段2", "怎么办"),
        ("段3", "附则"),
    ]


def test_a_text_broken_at_a_fixed_width_is_joined(tmp_path: Path) -> None:
    lines = [
        "     " + "各区民政局要按照本通知做好补贴发放工作并且按时上报发放情况不得拖延不得",
        "截留，" + "并将结果按季度报告。",
    ]
    body = "\n".join([*lines, *["     " + "甲乙丙丁戊己庚辛壬癸" * 3 + "子丑寅卯辰", "巳午。"] * 9])
    (tmp_path / "通知.txt").write_text("                 某市关于补贴的通知\n\n" + body, encoding="utf-8")
    document = read_document(tmp_path / "通知.txt")
    assert len(top(document.passages)) == 10
    assert "不得截留，并将" in document.text


def test_files_that_cannot_be_read_are_reported_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(ORDER, encoding="utf-8")
    (tmp_path / "b.docx").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "c.txt").write_bytes(b"\xff\x00\x81\x00")
    (tmp_path / "d.md").write_text("\n", encoding="utf-8")
    (tmp_path / "e.xyz").write_text("?", encoding="utf-8")
    (tmp_path / "f.txt").write_text(ORDER.replace("每年", "每月"), encoding="utf-8")
    documents, report = import_documents([tmp_path])
    assert [document.source for document in documents] == ["a.txt", "f.txt"]
    assert documents[1].code == documents[0].code + "~2"
    assert (report.rows, report.imported, report.skipped) == (6, 2, 4)
    assert {problem.row for problem in report.of("文件")} == {"b.docx", "c.txt", "d.md", "e.xyz"}
    assert "读取6份" in str(report)
    with pytest.raises(CatalogueError, match="no such file"):
        import_documents([tmp_path / "none.txt"])


def test_the_region_of_documents_is_told_by_who_imports_them(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(ORDER, encoding="utf-8")
    law = "食堂条例\n2001年3月1日 中华人民共和国国务院令第9号公布\n第一条 本条例自公布之日起施行。"
    (tmp_path / "b.txt").write_text(law, encoding="utf-8")
    documents, _ = import_documents(tmp_path, region="4401")
    assert [(document.level, document.region) for document in documents] == [("市级", "4401"), ("国家级", "")]


def test_a_document_replaces_its_older_self_and_no_other_of_the_same_number(tmp_path: Path) -> None:
    """One order may issue two regulations."""
    (tmp_path / "a.txt").write_text(ORDER, encoding="utf-8")
    first, _ = import_documents(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text(ORDER.replace("每年", "每月"), encoding="utf-8")
    (tmp_path / "b.txt").write_text(ORDER.replace("食堂", "宿舍"), encoding="utf-8")
    again, _ = import_documents(tmp_path / "a.txt", there=first)
    assert [document.code for document in again] == [first[0].code] and again[0].text != first[0].text
    other, report = import_documents(tmp_path / "b.txt", there=first)
    assert [document.code for document in other] == [first[0].code + "~2"]
    assert "某市食堂管理办法" in report.of("重复")[0].text
    assert [document.code for document in import_documents(tmp_path / "b.txt", there=[*first, *other])[0]] == [other[0].code]


def test_documents_go_out_and_in_again(tmp_path: Path) -> None:
    documents = [
        make_document(ORDER, source="办法.txt"),
        make_document("第一条 甲。", code="K", title="T", valid_to=date(2030, 1, 1)),
    ]
    assert export_documents(documents, tmp_path / "d.jsonl") == 2
    with open(tmp_path / "d.jsonl", "a", encoding="utf-8") as handle:
        handle.write('{"code": "x"}\n{')
    found, report = import_documents(tmp_path / "d.jsonl")
    assert found == documents and report.skipped == 2 and report.rows == 4
    with pytest.raises(CatalogueError, match=r"\.jsonl"):
        export_documents(documents, tmp_path / "d.csv")


# ---- real documents --------------------------------------------------------------------------------------------------

ARTICLE = re.compile(r"^\s*(第[一二三四五六七八九十百千零]+条(?:之[一二三四五六七八九十]+)?)[ \u3000]", re.MULTILINE)


def shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real documents beside the project are missing (../shared/data/{'/'.join(parts)})")
    return path


def articles(document: Document) -> list[str]:
    return [passage.id for passage in top(document.passages) if passage.id.startswith("第")]


def test_laws_that_a_service_hall_needs() -> None:
    """Articles are counted by their own numbers, which run from one without a gap."""
    paths = sorted(shared("laws", "service_hall").glob("*.md"))
    assert len(paths) == 33
    for path in paths:
        document = read_document(path)
        numbers = [numeral(name[1:-1]) for name in articles(document)]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 10, path.name
        for line in left_over(document):
            assert line == document.title or re.match(r"第[一二三四五六七八九十百]+[章节]", line), (path.name, line)
        stated = re.search(r"\((\d{4}-\d\d-\d\d)\)", path.name)
        assert stated and str(document.issued) == stated[1], path.name
        assert document.valid_from and document.issued and document.valid_from >= document.issued, path.name


@pytest.mark.parametrize("name", ["laws_national.jsonl.gz", "laws_local.jsonl.gz"])
def test_a_sample_of_all_laws(name: str) -> None:
    """Every eighth. Two of the lines that this finds more than the plain pattern are articles without a space after the number."""
    with gzip.open(shared("laws", name), "rt", encoding="utf-8") as handle:
        rows = [json.loads(line) for line in itertools.islice(handle, 0, None, 8)]
    found = wanted = 0
    for row in rows:
        document = make_document(row["text"], title=row["title"])
        names = [entry.split("~")[0] for entry in articles(document)]
        expected = ["".join(match.split()) for match in ARTICLE.findall(row["text"])]
        rest = iter(names)
        assert all(entry in rest for entry in expected), row["title"]  # each one, in order
        found, wanted = found + len(names), wanted + len(expected)
        assert len({passage.id for passage in document.passages}) == len(document.passages)
        for line in left_over(document):
            assert len(line) <= 60, (row["title"], line)
    assert wanted > 5000 and found - wanted <= 5


def test_pages_of_a_city_government() -> None:
    folder = shared("gov", "guangzhou_policy", "sources")
    pytest.importorskip("trafilatura")
    documents, report = import_documents(folder)
    assert report.rows == 52 and report.imported == 51  # one holds page marks and no text
    by_number = {document.number: document for document in documents if document.number}
    housing = by_number["穗府办规〔2024〕13号"]
    assert [numeral(name[1:-1]) for name in articles(housing)] == list(range(1, 55))
    assert (housing.issued, housing.valid_to) == (date(2024, 7, 26), date(2029, 7, 25))
    assert housing.issuer == "广州市人民政府办公厅"
    elderly = by_number["广州市人民政府令第179号"]
    assert (elderly.title, elderly.valid_from, len(articles(elderly))) == ("广州市老年人优待办法", date(2021, 5, 1), 19)
    for document in documents:
        for passage in document.passages:
            assert document.text[passage.start : passage.end].strip()
        left_over(document)
    stated = json.loads((folder.parent / "documents.json").read_text(encoding="utf-8"))
    numbers = {entry["doc_no"] for entry in stated if re.fullmatch(r"\S+〔\d{4}〕\d+号", entry["doc_no"])}
    assert (
        len(numbers) > 8 and len(numbers & set(by_number)) >= len(numbers) - 3
    )  # some stand in pages that are not among the sources


def test_documents_of_the_police() -> None:
    documents, _ = import_documents(shared("gov", "idcard_docs"))
    by_number = {document.number: document for document in documents}
    temporary = by_number["公安部令第78号"]
    assert (temporary.issued, temporary.valid_from, len(articles(temporary))) == (date(2005, 6, 7), date(2005, 10, 1), 19)
    assert by_number["粤公网发〔2023〕1491号"].issued == date(2023, 5, 24)
    army = by_number["国务院、中央军事委员会令第510号"]
    assert (army.title, len(articles(army))) == ("现役军人和人民武装警察居民身份证申领发放办法", 18)
