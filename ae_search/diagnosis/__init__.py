"""What is wrong between this machine and a model server, step by step, and what to do about it."""

from ae_search.diagnosis.diagnose import diagnose
from ae_search.diagnosis.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "diagnose"]
