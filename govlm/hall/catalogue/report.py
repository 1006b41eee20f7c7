"""What an import found: counts, and a problem for everything that was not as it should be.

The report is read by the staff of a portal, so it is Chinese. An exception (`CatalogueError`) ends an import, or an operation on the
database; it is one English line, as everywhere in govlm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from govlm.terminal import display_width, pad

__all__ = ["CatalogueError", "Problem", "Report"]

_SHOWN = 8  # rows named in a line of the table


class CatalogueError(ValueError):
    """A file, mapping or database that cannot be used: one line that says what, where and what to do."""


@dataclass(frozen=True)
class Problem:
    """kind: 缺少, 编码, 重复, 类型, 未知列, 文件, 映射, …; row: number in the file (a name for documents), "" = the whole of it."""

    kind: str
    text: str
    row: str = ""
    column: str = ""


@dataclass
class Report:
    """source: name of the file(s). rows = imported + skipped."""

    source: str = ""
    unit: str = "行"
    rows: int = 0
    imported: int = 0
    skipped: int = 0
    mapping: str = ""
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, text: str, row: object = "", column: str = "") -> None:
        self.problems.append(Problem(kind, text, str(row), column))

    def of(self, kind: str) -> list[Problem]:
        """The problems of a kind, in order."""
        return [problem for problem in self.problems if problem.kind == kind]

    def _groups(self) -> Iterator[tuple[str, str, list[str]]]:
        groups: dict[tuple[str, str], list[str]] = {}
        for problem in self.problems:
            text = f"{problem.column}：{problem.text}" if problem.column else problem.text
            groups.setdefault((problem.kind, text), []).append(problem.row)
        for (kind, text), rows in groups.items():
            yield kind, text, [row for row in rows if row]

    def __str__(self) -> str:
        head = f"{self.source}：读取{self.rows}{self.unit}，导入{self.imported}，跳过{self.skipped}，问题{len(self.problems)}处"
        lines = [head + (f"（列的映射：{self.mapping}）" if self.mapping else "")]
        table = [("类别", "次数", "问题", self.unit)]
        for kind, text, rows in sorted(self._groups(), key=lambda group: group[0]):
            shown = "、".join(rows[:_SHOWN]) + (" …" if len(rows) > _SHOWN else "")
            table.append((kind, str(max(1, len(rows))), text, shown))
        if len(table) > 1:
            widths = [min(60, max(display_width(row[i]) for row in table)) for i in range(3)]
            for row in table:
                lines.append(
                    "  ".join([pad(cell, width) for cell, width in zip(row[:3], widths, strict=True)] + [row[3]]).rstrip()
                )
        return "\n".join(lines)
