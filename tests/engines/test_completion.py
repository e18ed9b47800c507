"""Where a sample ends, in text and in tokens."""

from __future__ import annotations

import pytest

from harness.engines.completion import Decoder, sample_seed, token_limit
from harness.types import Completion, GenerationRequest, SamplingConfig
from tests.engines.conftest import build_tokenizer

TOKENIZER = build_tokenizer()
EOS = TOKENIZER.eos_token_id
DECODER = Decoder(TOKENIZER, frozenset([EOS]))


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER(text)["input_ids"])


def completed(token_ids: tuple[int, ...], **sampling: object) -> Completion:
    return DECODER.completion(GenerationRequest("key", ids("Q?"), SamplingConfig(**sampling)), token_ids, -1.0)


def test_the_tokenizer_has_tokens_that_straddle_a_newline():
    assert [TOKENIZER.decode([i]) for i in ids("x\n\ny\na")] == ["x", "\n\n", "y", "\na"]


@pytest.mark.parametrize(
    ("tokens", "sampling", "text", "reason"),
    [
        (ids("ab"), {}, "ab", "length"),
        ((*ids("ab"), EOS), {}, "ab", "stop"),
        ((EOS,), {}, "", "stop"),
        (ids("ab\n"), {"stop": ("\n",)}, "ab", "stop"),
        (ids("ab\n"), {"step_stop": ("\n",)}, "ab\n", "step"),
        # One token holds the end of the step and more: the text runs to the end of the token.
        (ids("ab\na"), {"step_stop": ("\n",)}, "ab\na", "step"),
        (ids("ab\n\n"), {"step_stop": ("\n",)}, "ab\n\n", "step"),
        # A token completes both: the response ends.
        (ids("ab\n\n"), {"step_stop": ("\n",), "stop": ("\n\n",)}, "ab", "stop"),
        (ids("one#two"), {"stop": ("o#", "e#t")}, "on", "stop"),
        # EOS ends the response even right after a step.
        ((*ids("ab\n"), EOS), {"step_stop": ("\n",)}, "ab\n", "stop"),
    ],
)
def test_text_and_reason_of_a_sample(tokens: tuple[int, ...], sampling: dict[str, object], text: str, reason: str):
    assert completed(tokens, **sampling) == Completion(text, tokens, -1.0, reason)


def test_text_is_what_the_tokens_add_to_the_prompt():
    """A tokenizer that marks words by a leading space drops the first space of a text, but not one within."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"▁two": 0, "▁and": 1, "<eos>": 2}, unk_token="<eos>"))
    words.decoder = decoders.Metaspace()
    decoder = Decoder(PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>"), frozenset([2]))
    assert decoder.tokenizer.decode([1, 0]) == "and two"
    assert decoder.text((0,), (1, 0)) == " and two"


def test_max_tokens_are_capped_by_the_context():
    request = GenerationRequest("key", (1,) * 90, SamplingConfig(max_tokens=50))
    assert token_limit(request, 100) == 10
    assert token_limit(request, 1000) == 50


def test_seeds_follow_one_another_and_stay_in_range():
    assert [sample_seed(SamplingConfig(seed=7), j) for j in range(3)] == [7, 8, 9]
    assert sample_seed(SamplingConfig(seed=2**63 - 1)) < 2**62
