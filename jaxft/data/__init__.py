"""Files and assets become tokens or pixels, and those become deterministic batches."""

from jaxft.data.augment import (
    EvaluationImages,
    TrainingImages,
    Transform,
    augmented,
    evaluation_transform,
    training_transform,
)
from jaxft.data.batches import Batches, EvalBatches, ViewBatches, batches, eval_batches, views
from jaxft.data.boolq import boolq
from jaxft.data.chitchat import chitchat
from jaxft.data.dataset import Dataset, Ragged, arrays, ragged
from jaxft.data.dialogue import dialogue, prompts
from jaxft.data.digit_domains import DIGIT_DOMAINS, Pixels, PixelShift, digits, mnist, optdigits
from jaxft.data.disflqa import disflqa
from jaxft.data.fashion_mnist import FASHION_CLASSES, Images, ImageSplit, fashion_mnist
from jaxft.data.held_out import TrainTest
from jaxft.data.images import class_folders, image_arrays, read_image, read_images
from jaxft.data.labels import Vocabulary, float_labels, vocabulary
from jaxft.data.language import language_modelling, pack
from jaxft.data.packing import best_fit, fill_rate
from jaxft.data.sentiment import DOMAINS, Shift, Split, sentiment
from jaxft.data.seq2seq import seq2seq
from jaxft.data.spans import SpanDataset, gold_answers, span_answers, spans
from jaxft.data.structured import both_orders, structured
from jaxft.data.table import Table
from jaxft.data.tables import read_table
from jaxft.data.tagging import TagDataset, tag, tag_vocabulary, word_tags
from jaxft.data.tokens import check_max_length, tokenise
from jaxft.data.xsum import xsum

__all__ = [
    "DIGIT_DOMAINS",
    "DOMAINS",
    "FASHION_CLASSES",
    "Batches",
    "Dataset",
    "EvalBatches",
    "EvaluationImages",
    "ImageSplit",
    "Images",
    "PixelShift",
    "Pixels",
    "Ragged",
    "Shift",
    "SpanDataset",
    "Split",
    "Table",
    "TagDataset",
    "TrainTest",
    "TrainingImages",
    "Transform",
    "ViewBatches",
    "Vocabulary",
    "arrays",
    "augmented",
    "batches",
    "best_fit",
    "boolq",
    "both_orders",
    "check_max_length",
    "chitchat",
    "class_folders",
    "dialogue",
    "digits",
    "disflqa",
    "eval_batches",
    "evaluation_transform",
    "fashion_mnist",
    "fill_rate",
    "float_labels",
    "gold_answers",
    "image_arrays",
    "language_modelling",
    "mnist",
    "optdigits",
    "pack",
    "prompts",
    "ragged",
    "read_image",
    "read_images",
    "read_table",
    "sentiment",
    "seq2seq",
    "span_answers",
    "spans",
    "structured",
    "tag",
    "tag_vocabulary",
    "tokenise",
    "training_transform",
    "views",
    "vocabulary",
    "word_tags",
    "xsum",
]
