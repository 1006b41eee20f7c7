"""Constrained decoding: only tokens that keep the text inside a regular expression, a JSON schema, or its sources' facts.

Each constraint has `start() -> state`, `allowed(state) -> bool mask [V]`, `advance(state, token_id) -> state` and
`finished(state) -> bool` (see Constraint).
"""

from govlm.generation.constrained.constraint import Constraint
from govlm.generation.constrained.copying import CopyConstraint, copied, figures
from govlm.generation.constrained.regex import RegexConstraint
from govlm.generation.constrained.schema import JsonSchemaConstraint
from govlm.generation.constrained.vocabulary import Vocabulary

__all__ = ["Constraint", "CopyConstraint", "JsonSchemaConstraint", "RegexConstraint", "Vocabulary", "copied", "figures"]
