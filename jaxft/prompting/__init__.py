"""Prompting: labels from a language model without training it, by templates, examples and calibration."""

from jaxft.prompting.calibration import (
    contextual_calibration,
    nearest_neighbours,
    pointwise_mutual_information,
    probabilities,
)
from jaxft.prompting.classify import Predicted, classify
from jaxft.prompting.grid import Rows, compare_prompts, summarise
from jaxft.prompting.scoring import next_token_log_probabilities, score
from jaxft.prompting.shots import choose_shots, few_shot_prompt, fitting
from jaxft.prompting.templates import Template

__all__ = [
    "Predicted",
    "Rows",
    "Template",
    "choose_shots",
    "classify",
    "compare_prompts",
    "contextual_calibration",
    "few_shot_prompt",
    "fitting",
    "nearest_neighbours",
    "next_token_log_probabilities",
    "pointwise_mutual_information",
    "probabilities",
    "score",
    "summarise",
]
