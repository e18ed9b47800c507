"""Of each published form of chats: what a response is sampled from, what is trained, and what is graded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.datamodules import SFTDataModule
from harness.engines.completion import Decoder
from harness.errors import InputError
from harness.evals.presets import NONE, REASONING, find_preset
from harness.grading import PROTOCOLS, grade
from harness.models.losses import IGNORED
from harness.prompts.chats import encode_continuations, end_of_turn, render_chat, thinks
from harness.prompts.templates import PromptTemplate
from harness.store import write_rows
from harness.types import GenerationRequest, Problem, SamplingConfig
from tests.prompts.chat_forms import BOX, FORMS, QUESTION, SYSTEM

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- written by tests/prompts/test_chat_forms.py -->", "<!-- end of the chats -->"

each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def template_of(form):
    system = SYSTEM if form.system else ""
    return PromptTemplate("t", user="{question}", system=system, chat=True, chat_options=form.options)


def messages_of(form):
    before = [{"role": "system", "content": SYSTEM}] if form.system else []
    return [*before, {"role": "user", "content": QUESTION}]


@each_form
def test_a_response_is_sampled_from_the_prompt_of_the_form_with_one_bos(form):
    tokenizer, template = form.tokenizer(), template_of(form)
    assert template.render(Problem("", QUESTION), tokenizer) == form.prompt
    ids = template.encode(Problem("", QUESTION), tokenizer)
    assert tokenizer.decode(ids) == form.prompt
    assert not form.bos or ids.count(tokenizer.bos_token_id) == 1


@each_form
def test_the_answer_of_a_row_of_messages_is_trained_as_the_form_writes_it(form, tmp_path):
    tokenizer, template = form.tokenizer(), template_of(form)
    answer = {"role": "assistant", "content": form.answer}
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"messages": [*messages_of(form), answer]}, {"prompt": messages_of(form), "response": [answer]}])
    module = SFTDataModule([str(path)], template=template, batch_size=2, tokenizer=tokenizer)
    [batch] = module.train_dataloader()
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        learnt = labels != IGNORED
        assert tokenizer.decode(ids[learnt]) == form.trained
        # The very tokens that the engine continues.
        assert tuple(ids[~learnt].tolist()) == template.encode(Problem("", QUESTION), tokenizer)


@each_form
def test_a_response_ends_where_its_turn_does_and_its_text_is_graded(form):
    tokenizer, template = form.tokenizer(), template_of(form)
    ids = tuple(tokenizer(form.trained, add_special_tokens=False)["input_ids"])
    decoder = Decoder(tokenizer, frozenset([tokenizer.eos_token_id, end_of_turn(tokenizer)]))
    assert ids[-1] in decoder.eos_ids
    assert not set(ids[:-1]) & decoder.eos_ids
    prompt = template.encode(Problem("", QUESTION), tokenizer)
    completion = decoder.completion(GenerationRequest("", prompt, SamplingConfig()), ids, 0.0, None)
    assert (completion.text, completion.finish_reason) == (form.graded, "stop")
    assert grade(completion.text, "2", protocol=PROTOCOLS["boxed"]).correct


def test_the_channels_of_harmony_stay_in_the_text_and_the_final_one_is_graded():
    form = FORMS["harmony (GPT-OSS)"]
    tokenizer = form.tokenizer()
    thought = "<|channel|>analysis<|message|>Is it \\boxed{3}?<|end|>"
    said = thought + "<|start|>assistant<|channel|>final<|message|>" + BOX
    ids = tuple(tokenizer(said + "<|return|>", add_special_tokens=False)["input_ids"])
    decoder = Decoder(tokenizer, frozenset([tokenizer.eos_token_id]))
    prompt = template_of(form).encode(Problem("", QUESTION), tokenizer)
    text = decoder.completion(GenerationRequest("", prompt, SamplingConfig()), ids, 0.0, None).text
    assert text == said
    assert encode_continuations([text], tokenizer) == [list(ids[:-1])]
    assert grade(text, "2", protocol=PROTOCOLS["boxed"]).correct
    assert not grade(text, "3", protocol=PROTOCOLS["boxed"]).correct
    assert not grade(thought, "3", protocol=PROTOCOLS["boxed"]).correct


@each_form
def test_an_earlier_answer_is_in_the_next_prompt_as_the_form_writes_it(form):
    turns = [{"role": "assistant", "content": form.answer}, {"role": "user", "content": "2+2?"}]
    prompt = render_chat([*messages_of(form), *turns], form.tokenizer(), form.options)
    assert form.earlier in prompt
    assert prompt.count("<think>") == form.prompt.count("<think>"), "an earlier thought is left out"


def test_an_answer_without_the_thought_that_the_form_begins_is_refused(tmp_path):
    form = FORMS["DeepSeek-R1"]
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"messages": [*messages_of(form), {"role": "assistant", "content": "2"}]}])
    module = SFTDataModule([str(path)], template=template_of(form), tokenizer=form.tokenizer())
    with pytest.raises(InputError, match=r"rows.jsonl:1: the chat template begins every answer with a thought"):
        module.train_dataloader()


def test_roles_that_a_form_refuses_are_named(tmp_path):
    gemma, mistral = FORMS["Gemma 2"].tokenizer(), FORMS["Mistral"].tokenizer()
    template = PromptTemplate("t", system=SYSTEM, chat=True)
    with pytest.raises(InputError, match=r"'t' is a chat, but .* roles system, user \(no system role\)"):
        template.render(Problem("", QUESTION), gemma)
    path = tmp_path / "rows.jsonl"
    chat = [{"role": role, "content": "1"} for role in ("user", "user", "assistant")]
    write_rows(path, [{"messages": chat}])
    with pytest.raises(InputError, match=r"rows.jsonl:1: the row is a chat, but .*must alternate"):
        SFTDataModule([str(path)], tokenizer=mistral).train_dataloader()


def test_tools_of_a_row_are_shown_to_the_template(tmp_path):
    tokenizer = FORMS["ChatML (Qwen 2.5)"].tokenizer()
    tokenizer.chat_template = "{% for t in tools %}{{ t.name }};{% endfor %}" + tokenizer.chat_template
    path = tmp_path / "rows.jsonl"
    call = {"role": "assistant", "tool_calls": [{"name": "add"}], "content": ""}
    chat = [{"role": "user", "content": "1"}, call, {"role": "tool", "content": "2"}]
    write_rows(path, [{"messages": [*chat, {"role": "assistant", "content": "2"}], "tools": [{"name": "add"}]}])
    [batch] = SFTDataModule([str(path)], tokenizer=tokenizer).train_dataloader()
    text = tokenizer.decode(batch["input_ids"][0])
    assert text.startswith("add;<|im_start|>user\n1<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>tool\n2")


def test_the_page_shows_the_forms():
    def code(text: str) -> str:
        return "`" + text.replace("\n", "↵").replace("|", "\\|") + "`"

    rows = [
        f"| {name} | {code(form.prompt)} | {code(form.trained)} | {code(form.graded)} |" for name, form in FORMS.items()
    ]
    table = "\n".join(["| form | sampled from | trained | graded |", "|---|---|---|---|", *rows])
    page = PAGE.read_text()
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    if os.environ.get("HARNESS_WRITE_DOCS"):
        PAGE.write_text(f"{page[:start]}\n{table}\n{page[end:]}")
    else:
        assert page[start:end].strip() == table, "run the test once with HARNESS_WRITE_DOCS=1"


@each_form
def test_the_preset_for_reasoning_is_chosen_where_the_form_lets_a_model_think(form):
    tokenizer, template = form.tokenizer(), template_of(form)
    thinking = form in (FORMS["DeepSeek-R1"], FORMS["Qwen 3"])
    assert thinks(tokenizer, form.options) == thinking
    assert find_preset("auto", template, tokenizer) == (REASONING if thinking else NONE)
    assert find_preset("none", template, tokenizer) == NONE
    assert find_preset("auto", PromptTemplate("plain"), tokenizer) == NONE
    assert find_preset("reasoning", PromptTemplate("plain"), tokenizer) == REASONING
