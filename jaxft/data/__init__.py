"""Files and assets become tokens or pixels, and those become deterministic batches."""

from jaxft.data.batches import Batches, EvalBatches, ViewBatches, batches, eval_batches, views
from jaxft.data.dataset import Dataset, Ragged, arrays
from jaxft.data.labels import Vocabulary, float_labels, vocabulary
from jaxft.data.sentiment import DOMAINS, Shift, Split, sentiment
from jaxft.data.table import Table
from jaxft.data.tables import read_table
from jaxft.data.tokens import check_max_length, tokenise

__all__ = [
    "DOMAINS",
    "Batches",
    "Dataset",
    "EvalBatches",
    "Ragged",
    "Shift",
    "Split",
    "Table",
    "ViewBatches",
    "Vocabulary",
    "arrays",
    "batches",
    "check_max_length",
    "eval_batches",
    "float_labels",
    "read_table",
    "sentiment",
    "tokenise",
    "views",
    "vocabulary",
]
