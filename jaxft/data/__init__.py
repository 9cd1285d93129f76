"""Files and assets become tokens or pixels, and those become deterministic batches."""

from jaxft.data.batches import Batches, EvalBatches, ViewBatches, batches, eval_batches, views
from jaxft.data.boolq import boolq
from jaxft.data.chitchat import chitchat
from jaxft.data.dataset import Dataset, Ragged, arrays
from jaxft.data.disflqa import disflqa
from jaxft.data.fashion_mnist import FASHION_CLASSES, Images, ImageSplit, fashion_mnist
from jaxft.data.held_out import TrainTest
from jaxft.data.labels import Vocabulary, float_labels, vocabulary
from jaxft.data.sentiment import DOMAINS, Shift, Split, sentiment
from jaxft.data.table import Table
from jaxft.data.tables import read_table
from jaxft.data.tokens import check_max_length, tokenise
from jaxft.data.xsum import xsum

__all__ = [
    "DOMAINS",
    "FASHION_CLASSES",
    "Batches",
    "Dataset",
    "EvalBatches",
    "ImageSplit",
    "Images",
    "Ragged",
    "Shift",
    "Split",
    "Table",
    "TrainTest",
    "ViewBatches",
    "Vocabulary",
    "arrays",
    "batches",
    "boolq",
    "check_max_length",
    "chitchat",
    "disflqa",
    "eval_batches",
    "fashion_mnist",
    "float_labels",
    "read_table",
    "sentiment",
    "tokenise",
    "views",
    "vocabulary",
    "xsum",
]
