"""Generation: the next token, again and again, in one compiled loop."""

from jaxft.generation.generate import Generated, generate
from jaxft.generation.sampling import filtered, sample
from jaxft.generation.text import chat_prompts, complete, encode_prompts, reply

__all__ = ["Generated", "chat_prompts", "complete", "encode_prompts", "filtered", "generate", "reply", "sample"]
