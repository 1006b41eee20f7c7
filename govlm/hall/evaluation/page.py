"""A report as one page of HTML: Chinese and English labels, plots in the page, nothing from the network, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from govlm.hall.evaluation.charts import bars, confusion, reliability_diagram
from govlm.hall.evaluation.results import Failure, Figure, Report, clean
from govlm.hall.evaluation.text import bar_of, changed, difference, interval, number

__all__ = ["page"]

_SUITES = {
    "understanding": "理解 Understanding",
    "retrieval": "检索 Retrieval",
    "answers": "回答 Answers",
    "privacy": "隐私 Privacy",
    "forms": "表单 Forms",
    "dialogue": "对话 Dialogue",
    "policy": "政策 Policy",
    "push": "推荐 Recommendations",
}
_CSS = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #ffffff; --soft: #5d6b79; --edge: #d5dce3; --hall: #2b7bba; --rules: #a9b4bf; --wrong: #d2553f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5eaef; --paper: #14191f; --soft: #9aa7b3; --edge: #37424d; --hall: #4b9bd8; --rules: #6a7681; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; color: var(--ink); background: var(--paper); line-height: 1.5;
  font-family: system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid var(--edge); } h3 { font-size: 1rem; }
.soft { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; } caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--edge); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 9rem; }
.missed { color: var(--wrong); font-weight: 600; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; flex: 1 1 20rem; min-width: 0; max-width: 30rem; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; font-size: 11px; } svg text { fill: var(--ink); } svg .small { fill: var(--soft); font-size: 10px; } svg .cell { font-size: 7px; }
.hall { fill: var(--hall); background: var(--hall); } .rules { fill: var(--rules); background: var(--rules); } .wrong { fill: var(--wrong); }
.whisker { stroke: var(--ink); fill: none; } .grid { stroke: var(--edge); } .frame { fill: none; stroke: var(--edge); }
.disc { fill: var(--hall); fill-opacity: 0.75; }
.key { display: inline-block; width: 0.9em; height: 0.9em; vertical-align: -0.1em; }
summary { cursor: pointer; font-weight: 600; padding: 0.4rem 0; } li { margin: 0.3rem 0; } ol { padding-left: 1.6rem; }
"""


def page(report: Report) -> str:
    """The whole page; it is well-formed XML as well."""
    sections = [section for suite in report.suites for section in _suite(report, suite)]
    head = f"{_text(report.hall)}：{report.items:,} 个事项 items，{report.documents:,} 份文件 documents；评测日 as on {report.today.isoformat()}"
    rules = (
        '<p class="soft"><span class="key hall"></span> 大厅 the hall　<span class="key rules"></span> 关键词规则（传统做法） keyword rules, '
        "the traditional way。单位 %；方括号和短线是 95 % 自助法置信区间 bootstrap intervals；* 差值的区间不含 0 the interval of the difference does not hold 0。</p>"
    )
    body = ["<h1>大厅评测报告 Evaluation of the hall</h1>", f"<p>{head}</p>", _verdicts(report), rules, *sections]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="zh-CN">',
            "<head>",
            '<meta charset="utf-8"/>',
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
            f"<title>大厅评测报告 {_text(report.hall)}</title>",
            f"<style>{_CSS}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def _text(value: str) -> str:
    return escape(clean(value), quote=True)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Cells are HTML already."""
    lines = ['<div class="wide"><table>', f"<caption>{caption}</caption>" if caption else ""]
    lines.append("<thead><tr>" + "".join(f'<th scope="col">{cell}</th>' for cell in head) + "</tr></thead><tbody>")
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*filter(None, lines), "</tbody></table></div>"])


def _verdicts(report: Report) -> str:
    if not report.bars:
        return ""
    rows = []
    for verdict in report.bars:
        figure = report.figures[verdict.figure]
        said = "达到 met" if verdict.met else '<span class="missed">未达到 missed</span>'
        rows.append((_named(figure), bar_of(figure, verdict.bar), number(verdict.value, figure.count), said))
    return _table(("指标 figure", "要求 bar", "结果 value", "结论 verdict"), rows, "要求 Bars")


def _named(figure: Figure) -> str:
    return f'{_text(figure.zh)}<br/><span class="soft">{_text(figure.en)}<br/>{_text(figure.name)}</span>'


def _figure(caption: str, chart: str) -> str:
    return f"<figure><figcaption>{caption}</figcaption>\n{chart}\n</figure>"


def _suite(report: Report, suite: str) -> list[str]:
    figures = [figure for figure in report.figures.values() if figure.suite == suite]
    main = [figure for figure in figures if not figure.kind]
    shares = [figure for figure in main if not figure.count]
    charts = [_figure("各项指标 Figures, %", bars(f"{suite}: figures", shares))]
    if suite == "understanding":
        charts.append(_figure("可靠性图 Reliability diagram", reliability_diagram(report.samples[f"{suite}.confidence"].rows)))
        charts.append(
            _figure("业务类型混淆矩阵 Confusion of business types", confusion(report.samples[f"{suite}.business"].rows))
        )
    if kinds := [figure for figure in figures if figure.kind]:
        statistic = kinds[-1].statistic  # F1 of slots, F2 of personal data
        chosen = [figure for figure in kinds if figure.statistic == statistic]
        charts.append(_figure(f"各种类 By kind, {statistic.upper()}, %", bars(f"{suite}: {statistic} by kind", chosen)))
    sections = [f"<h2>{_SUITES[suite]}</h2>", '<div class="charts">', *charts, "</div>", _figures(report, main)]
    if kinds:
        sections.append(_kinds(kinds))
    return [*sections, _failures([failure for failure in report.failures if failure.suite == suite])]


def _figures(report: Report, figures: Sequence[Figure]) -> str:
    rules = any(figure.rules is not None for figure in figures)
    head = ["指标 figure", "大厅 hall", *(["规则 rules", "领先 ahead"] if rules else [])]
    head += ["上次 before", "变化 change"] if report.changes else []
    rows = []
    for figure in figures:
        row = [_named(figure), interval(figure.hall, figure.count)]
        if rules:
            row += [
                "" if figure.rules is None else interval(figure.rules, figure.count),
                difference(figure.ahead, figure.count),
            ]
        if report.changes:
            change = report.changes.get(figure.name)
            row += ["", ""] if change is None else [number(change.before, figure.count), changed(figure, change)]
        rows.append([*row, f"{figure.cases:,}"])
    return _table([*head, "句数 cases"], rows)


def _kinds(figures: Sequence[Figure]) -> str:
    statistics = list(dict.fromkeys(figure.statistic for figure in figures))
    rows = []
    for kind, entries in groupby(figures, lambda figure: figure.kind):
        of = {figure.statistic: figure for figure in entries}
        first = next(iter(of.values()))
        label = f'{_text(first.zh.rsplit(" ", 1)[0])} <span class="soft">{_text(kind)}</span>'
        rows.append([label, *(interval(of[s].hall, False) if s in of else "" for s in statistics)])
    names = {"precision": "精确率 precision", "recall": "召回率 recall"}
    return _table(["种类 kind", *(names.get(s, s.upper()) for s in statistics)], rows, "各种类 By kind")


def _failures(failures: Sequence[Failure]) -> str:
    if not failures:
        return "<p>没有失败的句子 No failed cases</p>"
    lines = [
        f'<details><summary>失败的句子 Failed cases: {len(failures):,}</summary><p class="soft">个人信息已遮蔽 personal data is masked</p><ol>'
    ]
    for failure in failures:
        lines.append(
            f"<li>{_text(failure.text)}<br/>应为 wanted: {_text(failure.wanted)}<br/>实为 found: {_text(failure.found)}<br/>"
            f'<span class="soft">{_text(failure.what)} · {_text(failure.file)}:{failure.line}</span></li>'
        )
    return "\n".join([*lines, "</ol></details>"])
