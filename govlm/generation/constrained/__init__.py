"""Constrained decoding: only tokens that keep the text inside a regular expression, a JSON schema, or its sources' facts.

both() joins two; json_copying() is a JSON schema some of whose strings copy their figures and names from sources.

Each constraint has `start() -> state`, `allowed(state) -> bool mask [V]`, `advance(state, token_id) -> state` and
`finished(state) -> bool` (see Constraint).
"""

from govlm.generation.constrained.constraint import Constraint
from govlm.generation.constrained.copying import CopyConstraint, copied, figures
from govlm.generation.constrained.fields import CopiedFieldsConstraint, json_copying
from govlm.generation.constrained.intersection import both
from govlm.generation.constrained.regex import RegexConstraint
from govlm.generation.constrained.schema import JsonSchemaConstraint
from govlm.generation.constrained.vocabulary import Vocabulary

__all__ = [
    "Constraint", "CopiedFieldsConstraint", "CopyConstraint", "JsonSchemaConstraint", "RegexConstraint", "Vocabulary", "both",
    "copied", "figures", "json_copying",
]  # fmt: skip
