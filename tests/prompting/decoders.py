"""Small decoders with a tokenizer of words."""

from __future__ import annotations

import jaxft as ft
from tests.models.golden import golden

SPECIAL = ("<unk>", "<pad>", "<s>", "</s>")
WORDS = ("good", "bad", "great", "film", "was", "it", "dull", "fine", "N", "A", "/", ":", ".", "MASK", "very", "old")


def decoder(name: str = "llama_lm") -> ft.Model:
    """The model of a golden directory; a word of its own has a token of its own, all others are unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*SPECIAL, *WORDS))}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")
    return golden(name).model._replace(tokenizer=tokenizer)
