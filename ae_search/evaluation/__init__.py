"""How good the latents, the index and a search are.

What is here needs no TensorFlow; `evaluate` does.
"""

from ae_search.evaluation.measures.latency import QueryFigures, evaluate_queries, precision
from ae_search.evaluation.results import Evaluation

__all__ = ["Evaluation", "QueryFigures", "evaluate_queries", "precision"]
