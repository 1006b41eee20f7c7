"""Text that matches a regular expression from its first character to its last."""

from __future__ import annotations

from govlm.generation.constrained.automata import compile_expression
from govlm.generation.constrained.constraint import Constraint
from govlm.generation.constrained.expressions import parse
from govlm.generation.constrained.vocabulary import Vocabulary

__all__ = ["RegexConstraint"]


class RegexConstraint(Constraint):
    """Only texts that `re.fullmatch(pattern, text)` finds.

    ValueError: the pattern is wrong, uses what no finite automaton decides (look-around, back references), is too large, or
    stands for no text that the vocabulary can spell.
    """

    def __init__(self, pattern: str, vocabulary: Vocabulary) -> None:
        what = f"regular expression {pattern[:60]!r}"
        super().__init__(compile_expression(parse(pattern), vocabulary.alphabet, what), vocabulary)
