"""Values that a message does not write out but points to: 也住那儿, 跟户口本一样, 同上 are the other address of the form."""

from __future__ import annotations

import re
from collections.abc import Mapping

from govlm.hall.forms.marks import Cue
from govlm.hall.forms.schema import Form, FormField
from govlm.hall.forms.settlement import FilledField

__all__ = ["same_place"]

_THERE = r"(?:那里|那儿|那边|这里|这儿|这边|那个?地[方址]|这个?地[方址]|那|这)"
_AGAIN = re.compile(
    rf"(?:也|就|还|都|一直|目前|现在|我|是|[，,\s])*(?:也|就|还|都|一直|现在)(?:是)?住?在?{_THERE}(?:住)?"
    r"|(?:(?:跟|和|与|同)[^，。,；;]{0,10}?)(?:一样|相同|一致|一个地[方址]|同一个)|(?:也|都|就)是(?:一样|同一个)(?:的)?(?:地[方址])?"
    r"|^(?:都|也|就|是|地址)*(?:一样|相同|同上|一致|没变|不变|同一个(?:地[方址])?)(?:的|啊|呢|吧)?[。！]?$|同上|同(?:户口|户籍|住址|上面)"
)
_DIFFERS = re.compile("不一样|不同|不一致|不是一个|没有?住")


def same_place(
    form: Form, plain: str, asked: FormField | None, found: Mapping[str, FilledField], known: Mapping[str, str],
    found_cues: Mapping[str, list[Cue]],
) -> dict[str, FilledField]:  # fmt: skip
    """The address field that the message says to be as the other: the one whose cue stands in the clause, else the one that was asked.
    Nothing where the form has not exactly one other address that is known. plain: as `marks.narrow` gives it."""
    addresses = [field.name for field in form.fields.values() if field.kind == "address"]
    match = _AGAIN.search(plain)
    if len(addresses) < 2 or match is None or _DIFFERS.search(plain):
        return {}
    values = {name: found[name].value if name in found else known.get(name, "") for name in addresses}
    head = max((plain.rfind(stop, 0, match.start()) for stop in "，,。；;\n"), default=-1) + 1
    named = [
        name
        for name in addresses
        if name not in found and any(head <= cue.start < match.end() and cue.own for cue in found_cues[name])
    ]
    open_ = [name for name in addresses if not values[name]]
    wanted = asked.name if asked is not None and asked.kind == "address" and asked.name not in found else ""
    target = wanted or (named[0] if len(named) == 1 else open_[0] if found and len(open_) == 1 else "")
    others = {values[name] for name in addresses if name != target and values[name]}
    if not target or len(others) != 1:
        return {}
    return {target: FilledField(others.pop(), plain[match.start() : match.end()], match.start(), match.end(), 0.9)}
