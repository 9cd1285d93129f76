"""Figures that sum up predictions, as pure functions of arrays, strings or sums."""

from jaxft.metrics.answers import answer_metrics, normalise_answer
from jaxft.metrics.classification import classification_metrics
from jaxft.metrics.interval import wilson_interval
from jaxft.metrics.language import language_metrics, perplexity
from jaxft.metrics.regression import regression_metrics
from jaxft.metrics.rouge import rouge_metrics
from jaxft.metrics.tagging import entities, tagging_metrics

__all__ = [
    "answer_metrics",
    "classification_metrics",
    "entities",
    "language_metrics",
    "normalise_answer",
    "perplexity",
    "regression_metrics",
    "rouge_metrics",
    "tagging_metrics",
    "wilson_interval",
]
