"""Prompts begin as the texts that a model learned from."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, models, processors
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from jaxft.generation import encode_prompts

SPECIAL = [("<s>", 0), ("</s>", 1)]


@pytest.mark.parametrize(("single", "kept"), [("$A", []), ("<s> $A", [0]), ("<s> $A </s>", [0])])
def test_prompts_get_the_beginning_that_the_tokenizer_adds_but_no_end(single, kept):
    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "two": 2}, unk_token="<s>"))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single=single, special_tokens=SPECIAL)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")
    model = SimpleNamespace(tokenizer=tokenizer, config=SimpleNamespace(task="lm", max_positions=64))

    def tokens(**options):
        batch = encode_prompts(model, ["two two"], **options)
        return batch["input_ids"][batch["attention_mask"] == 1].tolist()

    assert tokens() == [*kept, 2, 2]
    assert tokens(special=False) == [2, 2]
