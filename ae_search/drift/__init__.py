"""The log of queries, and how far they have moved from what is usual for an index."""

from ae_search.drift.comparing import Drift, Measure, Window, compare
from ae_search.drift.query_log import QueryLog
from ae_search.drift.reading import Logged, read_log

__all__ = ["Drift", "Logged", "Measure", "QueryLog", "Window", "compare", "read_log"]
