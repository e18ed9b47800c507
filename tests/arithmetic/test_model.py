import itertools

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.arithmetic.model import build_model, build_tokenizer
from harness.arithmetic.problems import problems
from harness.commands.prepare import prepare
from harness.problems import read_problems


def test_decoding_gives_the_text_back_and_every_number_is_one_token():
    tokenizer = build_tokenizer()
    for problem in itertools.islice(problems("sft", 0, solutions=True), 200):
        text = f"{problem.question} ?\n{problem.solution}"
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids[1:]) == text
    assert len(tokenizer("12 + 3 ?\n")["input_ids"]) == 6


def test_the_base_model_has_the_promised_size_and_depends_on_the_seed_alone():
    tokenizer = build_tokenizer()
    torch.manual_seed(5)
    first, second, other = build_model(tokenizer, 1), build_model(tokenizer, 1), build_model(tokenizer, 2)
    assert 0.6e6 < first.num_parameters() < 0.7e6
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert not all(map(torch.equal, first.parameters(), other.parameters()))


def test_the_first_layer_looks_back_at_earlier_tokens_from_the_start():
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    model.set_attn_implementation("eager")
    ids = torch.randint(3, len(tokenizer), (1, 24), generator=torch.Generator().manual_seed(0))
    attention = model(ids, output_attentions=True).attentions[0][0]  # (heads, to, from)
    for head, back in enumerate((1, 2, 3, 4)):
        assert attention[head].argmax(-1)[8:].tolist() == [position - back for position in range(8, 24)]


def test_prepare_writes_disjoint_files_and_a_model_that_transformers_opens(tmp_path):
    prepare(tmp_path, num_sft=20, num_train=30, num_probe=10, num_test=10)
    questions = [
        row.question for name in ("sft", "train", "probe", "test") for row in read_problems(tmp_path / f"{name}.jsonl")
    ]
    assert len(questions) == len(set(questions)) == 70
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer.decode(tokenizer("6 * 5 ?\n")["input_ids"][1:]) == "6 * 5 ?\n"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "base").config.vocab_size == len(tokenizer)
