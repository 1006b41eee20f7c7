"""How good a hall is, measured on case files: suites, figures with confidence intervals, a comparison with a keyword-rule engine."""

from __future__ import annotations

from govlm.hall.evaluation.cases import Cases, CasesError
from govlm.hall.evaluation.results import Report
from govlm.hall.evaluation.rules import RuleEngine
from govlm.hall.evaluation.suites import SUITES, evaluate

__all__ = ["SUITES", "Cases", "CasesError", "Report", "RuleEngine", "evaluate"]
