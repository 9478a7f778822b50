"""Rules: Sigma files parsed by pySigma, checked against the field table, evaluated on batches with polars.

In the order of the data: :mod:`document` (YAML with lines) -> :mod:`validate`, :mod:`parse` -> :mod:`rule`,
:mod:`tree` -> :mod:`compile_polars`, :mod:`evaluate` -> :mod:`detections`; :mod:`judge` is what the
receivers call.
"""

from modelward_collector.rules.rule import Problem, Rule, RuleError

__all__ = ["Problem", "Rule", "RuleError"]
