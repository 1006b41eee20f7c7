"""Word documents whose 第三条 and （一） are counted by Word and stand in no run of text."""

from pathlib import Path
from typing import Any

import pytest

from govlm.corpus.readers import Document, Reader
from govlm.corpus.word_numbers import number_text

docx = pytest.importorskip("docx")
from docx.oxml import OxmlElement, parse_xml  # noqa: E402
from docx.oxml.ns import nsdecls, qn  # noqa: E402

CHAPTER = ("chineseCountingThousand", "第%1章", "")
ARTICLE = ("chineseCountingThousand", "第%2条", '<w:lvlRestart w:val="0"/>')
ITEM = ("chineseCounting", "（%3）", '<w:suff w:val="nothing"/>')


def define(document: Any, number: int, levels: list[tuple[str, str, str]], inner: str = "") -> None:
    """A list `number`: levels of (number format, label, further elements)."""
    rows = "".join(
        f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{form}"/>{more}<w:lvlText w:val="{text}"/></w:lvl>'
        for at, (form, text, more) in enumerate(levels)
    )
    root = document.part.numbering_part.element
    spaces = nsdecls("w")
    root.insert(0, parse_xml(f'<w:abstractNum {spaces} w:abstractNumId="{number}">{rows}</w:abstractNum>'))
    root.append(parse_xml(f'<w:num {spaces} w:numId="{number}"><w:abstractNumId w:val="{number}"/>{inner}</w:num>'))


def place(properties: Any, number: int, level: int) -> None:
    entry = OxmlElement("w:numPr")
    for name, value in (("w:ilvl", level), ("w:numId", number)):
        child = OxmlElement(name)
        child.set(qn("w:val"), str(value))
        entry.append(child)
    properties.append(entry)


def add(document: Any, text: str, number: int | None = None, level: int = 0) -> Any:
    paragraph = document.add_paragraph(text)
    if number is not None:
        place(paragraph._p.get_or_add_pPr(), number, level)
    return paragraph


def lines(document: Any, path: Path) -> list[str]:
    document.save(str(path))
    (found,) = Reader().read(path)
    assert isinstance(found, Document), found
    return found.text.split("\n")


def test_a_policy_whose_articles_word_counts(tmp_path: Path) -> None:
    from govlm.hall.catalogue.documents import read_document

    document = docx.Document()
    define(document, 801, [CHAPTER, ARTICLE, ITEM])
    add(document, "示例市市民食堂管理办法")
    add(document, "总则", 801, 0)
    add(document, "为了办好市民食堂，制定本办法。", 801, 1)
    add(document, "规定期限内开办的食堂，应当符合下列条件：", 801, 1)  # would be a mention of 第二条, were there no space
    add(document, "有固定场所；", 801, 2)
    add(document, "有卫生许可。", 801, 2)
    add(document, "管理", 801, 0)
    for count in range(3, 13):
        add(document, f"食堂应当公布第{count}类菜价，下列菜除外：", 801, 1)
        add(document, "时令菜。", 801, 2)
    document.save(str(tmp_path / "a.docx"))
    found = read_document(tmp_path / "a.docx")
    numbers = [*"一二三四五六七八九十", "十一", "十二"]
    assert found.title == "示例市市民食堂管理办法"
    assert [p.id for p in found.passages if p.id.startswith("第") and "/" not in p.id] == [f"第{n}条" for n in numbers]
    assert "第一章 总则" in found.text and "第二章 管理" in found.text and "第三条 食堂应当公布第3类菜价" in found.text
    second = next(p for p in found.passages if p.id == "第二条")
    text = found.text[second.start : second.end]
    assert text == "第二条 规定期限内开办的食堂，应当符合下列条件：\n（一）有固定场所；\n（二）有卫生许可。"
    assert found.text.count("（一）时令菜。") == 10
    assert {"第二条/1/一", "第二条/1/二"} <= {p.id for p in found.passages}


def test_lists_by_style_with_starts_of_their_own_bullets_and_tables(tmp_path: Path) -> None:
    document = docx.Document()
    define(document, 801, [("decimal", "%1.", ""), ("decimal", "%1.%2", "<w:isLgl/>")])
    define(document, 802, [("bullet", "", "")])
    override = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride>'
    define(document, 803, [("chineseCounting", "第%1条", "")], override)
    style = document.styles.add_style("条款", 1)
    place(style.element.get_or_add_pPr(), 803, 0)
    add(document, "甲", 801)
    add(document, "乙", 801, 1)
    document.add_paragraph("丙", style="条款")
    plain = document.add_paragraph("丁", style="条款")
    place(plain._p.get_or_add_pPr(), 0, 0)  # taken out of the list again
    add(document, "戊", 802)
    table = document.add_table(rows=3, cols=2)
    top = table.cell(0, 0).merge(table.cell(1, 0))
    for cell, text in ((top, "己"), (table.cell(2, 0), "庚")):
        cell.paragraphs[0].text = text
        place(cell.paragraphs[0]._p.get_or_add_pPr(), 801, 0)
    for row in range(3):
        table.cell(row, 1).text = "格"
    document.add_paragraph("辛", style="条款")
    add(document, "壬", 999)  # a list that the file does not define
    found = lines(document, tmp_path / "a.docx")
    assert found == ["1.甲", "1.1 乙", "第七条 丙", "丁", "戊", "2.己 格", "2.己 格", "3.庚 格", "第八条 辛", "壬"]


def test_a_document_without_lists_is_as_before(tmp_path: Path) -> None:
    document = docx.Document()
    add(document, "第一条 食堂每天开门。")
    assert lines(document, tmp_path / "a.docx") == ["第一条 食堂每天开门。"]


@pytest.mark.parametrize(
    ("value", "format", "wanted"),
    [
        (10, "chineseCounting", "十"), (15, "chineseCounting", "十五"), (20, "chineseCountingThousand", "二十"),
        (101, "chineseCounting", "一〇一"), (101, "chineseCountingThousand", "一百零一"), (110, "chineseCountingThousand", "一百一十"),
        (1005, "chineseCountingThousand", "一千零五"), (2020, "taiwaneseCountingThousand", "二千零二十"), (103, "japaneseCounting", "百三"),
        (12, "ideographDigital", "一二"), (15, "chineseLegalSimplified", "壹拾伍"), (3, "ideographTraditional", "丙"), (11, "ideographTraditional", "11"),
        (3, "decimalEnclosedCircleChinese", "③"), (12, "decimalFullWidth", "１２"), (4, "decimalZero", "04"), (28, "lowerLetter", "bb"),
        (1994, "upperRoman", "MCMXCIV"), (5, "none", ""), (7, "hebrew1", "7"), (0, "chineseCounting", "〇"), (12345, "chineseCountingThousand", "12345"),
    ],
)  # fmt: skip
def test_number_formats(value: int, format: str, wanted: str) -> None:
    assert number_text(value, format) == wanted
