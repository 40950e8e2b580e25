"""Retrieval metrics of codes and scores: the public names of ``metrics``."""

from adapters.vlm_quantization.metrics.evaluator import (
    evaluate_codes,
    evaluate_ranking,
    evaluate_scores,
    mean_average_precision,
    precision_at_k,
)
from adapters.vlm_quantization.metrics.precision_recall import PrecisionRecallCurve, precision_recall_curve
from adapters.vlm_quantization.metrics.protocols import PROTOCOLS, Protocol
from adapters.vlm_quantization.metrics.records import MetricRecord
from adapters.vlm_quantization.metrics.relevance import Graded, Judged, Relevance, SameItem, SharedLabel

__all__ = [
    "PROTOCOLS",
    "Graded",
    "Judged",
    "MetricRecord",
    "PrecisionRecallCurve",
    "Protocol",
    "Relevance",
    "SameItem",
    "SharedLabel",
    "evaluate_codes",
    "evaluate_ranking",
    "evaluate_scores",
    "mean_average_precision",
    "precision_at_k",
    "precision_recall_curve",
]
