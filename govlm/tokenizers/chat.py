"""Chat templates: a Jinja text that makes a prompt of messages, run in a sandbox with bounded work and output.

A template comes with a model, from a stranger. It sees the messages and a few harmless functions. What leads to code, changes its
arguments or loads another file is refused; loops, calls, texts and numbers have limits, so that it ends.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = ["TemplateError", "chosen_template", "render"]

MOST_TEMPLATE = 1 << 20  # characters of a template
MOST_TEXT = 1 << 20  # characters of a text or an output
MOST_STEPS = 200_000  # rounds of all loops, calls, pieces of output, and CHARACTERS of text that are put together
CHARACTERS = 64
MOST_BITS = 1 << 14  # of a number
# Names that no template can write, so that none can put something else in their place.
BUDGET, ROUNDS, CONCAT = " budget", " rounds", " concat"
FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "join", "last", "length",
    "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr",
    "sort", "string", "sum", "title", "trim", "unique", "upper",
)  # fmt: skip
PADDING = ("center", "expandtabs", "format", "format_map", "ljust", "rjust", "translate", "zfill")


class TemplateError(ValueError):
    """A template that is malformed, forbidden or too large, or that gave up by raise_exception."""


class _Budget:
    """What one rendering may still do."""

    def __init__(self) -> None:
        self.left = MOST_STEPS

    def text(self, size: int) -> None:
        """A text of so many characters is about to be made."""
        if size > MOST_TEXT:
            raise TemplateError(f"chat_template: a text of over {MOST_TEXT} characters")
        self.spend(size // CHARACTERS)

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TemplateError(f"chat_template: takes over {MOST_STEPS} steps")


def chosen_template(own: str | Mapping[str, str] | None, asked: str | None, tools: bool) -> str:
    """The text of the template: `asked` is one, or the name of one of `own`; else the default."""
    if isinstance(own, Mapping):
        if asked is not None and asked in own:
            return own[asked]
        if asked is None:
            name = "tool_use" if tools and "tool_use" in own else "default"
            if name not in own:
                raise ValueError(f"chat_template: choose one of {', '.join(own)}: there is no default")
            return own[name]
    found = asked if asked is not None else own
    if not isinstance(found, str):
        raise ValueError("this tokenizer has no chat_template: give one as an argument")
    return found


def _weigh(value: Any, limit: int = MOST_TEXT) -> int:
    """About how many characters a value is written as. Containers in containers are counted as often as they would be written."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        items: Iterable[Any] = itertools.chain.from_iterable(value.items())
    elif isinstance(value, list | tuple | set):
        items = value
    else:
        return 8
    total = 2
    for item in items:
        total += _weigh(item, limit - total) + 2
        if total > limit:
            raise TemplateError(f"chat_template: a value of over {MOST_TEXT} characters")
    return total


def _checked(value: Any) -> Any:
    if isinstance(value, list | tuple | set | Mapping):
        _weigh(value)
    return value


def _replaced(text: str, old: Any = "", new: Any = "", *_: Any) -> int:
    """The length of text.replace(old, new), or more."""
    return len(text) + text.count(str(old)) * len(str(new))


def _joined(separator: str, rows: list[Any]) -> int:
    return sum(_weigh(row) for row in rows) + len(separator) * len(rows)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    if indent is not None and not 0 <= indent <= 16:
        raise TemplateError("chat_template: tojson takes an indent from 0 to 16")
    return json.dumps(_checked(value), ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@functools.cache
def _environment() -> Any:
    try:
        from jinja2 import nodes, pass_context
        from jinja2.exceptions import SecurityError
        from jinja2.ext import Extension
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ImportError("chat templates need jinja2: pip install 'govlm[generate]'") from None

    class Generation(Extension):
        """{% generation %} … {% endgeneration %} marks the answer for training; here its contents."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(("*", "**", "+", "%"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            numbers = isinstance(left, int | float) and isinstance(right, int | float)
            if operator == "**" or (operator in "*%" and not numbers):
                raise SecurityError(f"{operator} is for numbers, and ** for none")
            whole = operator == "*" and isinstance(left, int) and isinstance(right, int)
            if whole and left.bit_length() + right.bit_length() > MOST_BITS:
                raise SecurityError("a number with so many digits")
            if operator == "+" and not numbers:
                context[BUDGET].text(_weigh(left) + _weigh(right))
            return super().call_binop(context, operator, left, right)

        def wrap_str_format(self, value: Any) -> Any:
            if getattr(value, "__name__", "") in PADDING and isinstance(getattr(value, "__self__", None), str):
                raise SecurityError(f"{value.__name__} of a text: a width can be anything")
            return None

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            if isinstance(obj, bytes) or (isinstance(obj, str) and attr in PADDING):
                return False
            return bool(super().is_safe_attribute(obj, attr, value))

        def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
            budget = __context[BUDGET]
            budget.spend(1)
            owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
            if isinstance(owner, str) and name == "join":
                args = (list(*args),)
                budget.text(_joined(owner, *args))
            elif isinstance(owner, str):
                budget.text(_replaced(owner, *args) if name == "replace" else len(owner))
            return super().call(__context, __obj, *args, **kwargs)

    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation], finalize=_checked
    )
    filters = {name: environment.filters[name] for name in FILTERS}
    plain_join, plain_replace, plain_string = filters["join"], filters["replace"], filters["string"]

    @pass_context
    def join(context: Any, value: Any, d: str = "", attribute: Any = None) -> Any:
        rows = list(value)
        context[BUDGET].text(_joined(d, rows) if attribute is None else _weigh(rows))
        return plain_join(context.eval_ctx, rows, d, attribute)

    @pass_context
    def replace(context: Any, s: Any, old: str, new: str, count: int | None = None) -> Any:
        context[BUDGET].text(_replaced(str(s), old, new))
        return plain_replace(context.eval_ctx, s, old, new, count)

    @pass_context
    def concat(context: Any, parts: Sequence[Any]) -> str:
        context[BUDGET].text(sum(_weigh(part) for part in parts))
        return "".join(str(part) for part in parts)

    def string(value: Any) -> Any:
        return plain_string(_checked(value))

    @pass_context
    def rounds(context: Any, items: Any) -> Any:
        if isinstance(items, environment.undefined):
            return items
        rows = list(itertools.islice(items, MOST_STEPS + 1))
        context[BUDGET].spend(len(rows))
        return rows

    own = {"join": join, "replace": replace, "string": string, "tojson": _tojson, ROUNDS: rounds, CONCAT: concat}
    environment.filters = filters | own
    for name in ("cycler", "joiner", "lipsum"):
        environment.globals.pop(name)
    return environment


def _bounded(tree: Any) -> Any:
    """Every loop and every ~ of a parsed template goes through the functions that count."""
    from jinja2 import nodes

    def counted(name: str, argument: Any) -> Any:
        return nodes.Filter(argument, name, [], [], None, None)

    def inside(value: Any) -> Any:
        return counted(CONCAT, nodes.List(value.nodes)) if isinstance(value, nodes.Concat) else value

    for loop in tree.find_all(nodes.For):
        loop.iter = counted(ROUNDS, loop.iter)
    for node in [tree, *tree.find_all(nodes.Node)]:
        for field, value in node.iter_fields():
            if isinstance(value, list):
                value[:] = map(inside, value)
            else:
                setattr(node, field, inside(value))
    return tree.set_environment(_environment())


@functools.lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    environment = _environment()
    tree = _bounded(environment.parse(template))
    code = environment.compile(tree)
    return environment.template_class.from_code(environment, code, environment.make_globals(None))


def render(template: str, messages: Sequence[Mapping[str, Any]], now: datetime | None = None, **variables: Any) -> str:
    """The text that `template` makes of `messages` (role and content each). TemplateError, a ValueError, says why there is none.

    now: what strftime_now tells; without it a template that asks is refused (nothing here reads the clock).
    """
    if len(template) > MOST_TEMPLATE:
        raise TemplateError(f"chat_template: {len(template)} characters are too many")
    _environment()  # says what is missing when jinja2 is
    from jinja2.exceptions import SecurityError
    from jinja2.exceptions import TemplateError as JinjaError

    budget = _Budget()

    def strftime_now(pattern: str) -> str:
        if now is None:
            raise TemplateError("chat_template: asks for the date: give now=")
        return now.strftime(pattern[:200])

    def steps(*bounds: int) -> range:
        whole = range(*bounds)
        if len(whole) > MOST_STEPS:
            raise TemplateError(f"chat_template: a range of {len(whole)} is too long")
        return whole

    def refuse(message: Any) -> None:
        raise TemplateError(f"chat_template: {str(message)[:300]}")

    given = {"range": steps, "raise_exception": refuse, "strftime_now": strftime_now, BUDGET: budget}
    try:
        parts = _compiled(template).generate({"messages": messages, **variables, **given})
        return "".join(_counted(parts, budget))
    except TemplateError:
        raise
    except SecurityError as error:
        raise TemplateError(f"chat_template: forbidden: {str(error)[:300]}") from None
    except JinjaError as error:
        raise TemplateError(f"chat_template: {str(error)[:300]}") from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise TemplateError(f"chat_template: {type(error).__name__}: {str(error)[:300]}") from None


def _counted(parts: Iterable[str], budget: _Budget) -> Iterator[str]:
    size = 0
    for part in parts:
        size += len(part)
        budget.spend(1)
        if size > MOST_TEXT:
            raise TemplateError(f"chat_template: writes over {MOST_TEXT} characters")
        yield part
