"""Published forms of chats, each written down from its documentation in the fewest rules that give it.

Sources: the model cards and prompt-format pages of Qwen 2.5 and Qwen 3, Llama 2 and 3, Mistral 7B Instruct v0.3,
Gemma 2, Phi-3, Zephyr, DeepSeek-R1, Command R, Granite 3, and the description of the harmony format of GPT-OSS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transformers import AddedToken

from tests.engines.conftest import build_tokenizer

QUESTION, SYSTEM = "1+1?", "Be brief."


@dataclass(frozen=True)
class Form:
    template: str
    """In Jinja, over `messages`, `bos_token`, `eos_token`, `add_generation_prompt` and the form's own variables."""
    eos: str
    bos: str = ""
    special: tuple[str, ...] = ()
    """Other special tokens."""
    words: tuple[str, ...] = ()
    """Tokens of their own that texts show."""
    system: bool = True
    """Whether it takes a system's message."""
    options: dict[str, Any] = field(default_factory=dict)
    prompt: str = ""
    """What a response to QUESTION, after SYSTEM where there may be one, is sampled from."""
    answer: str = r"\boxed{2}"
    """The content of the answer in a row of messages."""
    trained: str = ""
    """What is learnt of it."""
    graded: str = ""
    """The text of a response of just these tokens, which the grader reads."""
    earlier: str = ""
    """What is left of `answer` in the prompt of a second question."""

    def tokenizer(self) -> Any:
        tokenizer = build_tokenizer()
        named = {"eos_token": self.eos, "pad_token": self.eos, **({"bos_token": self.bos} if self.bos else {})}
        tokenizer.add_special_tokens(named)
        tokenizer.add_special_tokens({"additional_special_tokens": list(self.special)})
        tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in self.words])
        tokenizer.chat_template = self.template
        return tokenizer


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% set ns = namespace(system='') %}{% for m in messages %}"
    "{% if m.role == 'system' %}{% set ns.system = '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' %}"
    "{% elif m.role == 'user' %}{{ bos_token + '[INST] ' + ns.system + m.content + ' [/INST]' }}"
    "{% set ns.system = '' %}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' "
    "+ m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (  # the system's text belongs to the last question, so that it moves when the chat goes on
    "{{ bos_token }}{% set system = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% set turns = messages[1:] if system else messages %}"
    "{% set users = turns | selectattr('role', 'equalto', 'user') | list %}"
    "{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user and assistant') }}{% endif %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + (system + '\n\n' if system and m == users[-1] else '') + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + "
    "'<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
    "{% else %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1].lstrip() + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)
QWEN3 = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% set text = m.content %}{% if m.role == 'assistant' %}"
    "{% set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') if '</think>' in text else '' %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% if loop.index0 > ns.last %}"
    "{% set text = '<think>\n' + thought + '\n</think>\n\n' + text %}{% endif %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
COHERE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|>' + {'system': '<|SYSTEM_TOKEN|>', "
    "'user': '<|USER_TOKEN|>', 'assistant': '<|CHATBOT_TOKEN|>'}[m.role] + m.content | trim + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)
GRANITE = (
    "{% for m in messages %}{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
HARMONY = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + "
    "m.content + ('<|return|>' if loop.last else '<|end|>') }}{% else %}"
    "{{ '<|start|>' + ('developer' if m.role == 'system' else m.role) + '<|message|>' + m.content + '<|end|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)

BOX = r"\boxed{2}"
THOUGHT = "<think>\n1+1 is 2\n</think>\n\n"

FORMS: dict[str, Form] = {
    "ChatML (Qwen 2.5)": Form(
        CHATML,
        eos="<|im_end|>",
        special=("<|im_start|>",),
        prompt="<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n",
        trained=BOX + "<|im_end|>",
        graded=BOX,
        earlier="<|im_start|>assistant\n" + BOX + "<|im_end|>\n",
    ),
    "Llama 2": Form(
        LLAMA2,
        bos="<s>",
        eos="</s>",
        prompt="<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n1+1? [/INST]",
        trained=f" {BOX} </s>",
        graded=f" {BOX} ",
        earlier=f" [/INST] {BOX} </s><s>[INST]",
    ),
    "Llama 3": Form(
        LLAMA3,
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        special=("<|start_header_id|>", "<|end_header_id|>"),
        prompt="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n1+1?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        trained=BOX + "<|eot_id|>",
        graded=BOX,
        earlier="assistant<|end_header_id|>\n\n" + BOX + "<|eot_id|>",
    ),
    "Mistral": Form(
        MISTRAL,
        bos="<s>",
        eos="</s>",
        special=("[INST]", "[/INST]"),
        prompt="<s>[INST] Be brief.\n\n1+1?[/INST]",
        trained=f" {BOX}</s>",
        graded=f" {BOX}",
        earlier=f"<s>[INST] 1+1?[/INST] {BOX}</s>[INST] Be brief.\n\n",
    ),
    "Gemma 2": Form(
        GEMMA,
        bos="<bos>",
        eos="<eos>",
        special=("<start_of_turn>", "<end_of_turn>"),
        system=False,
        prompt="<bos><start_of_turn>user\n1+1?<end_of_turn>\n<start_of_turn>model\n",
        trained=BOX + "<end_of_turn>",
        graded=BOX,
        earlier="<start_of_turn>model\n" + BOX + "<end_of_turn>\n",
    ),
    "Phi-3": Form(
        PHI3,
        eos="<|endoftext|>",
        special=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        prompt="<|system|>\nBe brief.<|end|>\n<|user|>\n1+1?<|end|>\n<|assistant|>\n",
        trained=BOX + "<|end|>",
        graded=BOX,
        earlier="<|assistant|>\n" + BOX + "<|end|>\n",
    ),
    "Zephyr": Form(
        ZEPHYR,
        eos="</s>",
        prompt="<|system|>\nBe brief.</s>\n<|user|>\n1+1?</s>\n<|assistant|>\n",
        trained=BOX + "</s>",
        graded=BOX,
        earlier="<|assistant|>\n" + BOX + "</s>\n",
    ),
    "DeepSeek-R1": Form(
        DEEPSEEK,
        bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>",
        special=("<｜User｜>", "<｜Assistant｜>"),
        words=("<think>", "</think>"),
        prompt="<｜begin▁of▁sentence｜>Be brief.<｜User｜>1+1?<｜Assistant｜><think>\n",
        answer=THOUGHT + BOX,
        trained="1+1 is 2\n</think>\n\n" + BOX + "<｜end▁of▁sentence｜>",
        graded="1+1 is 2\n</think>\n\n" + BOX,
        earlier="<｜Assistant｜>" + BOX + "<｜end▁of▁sentence｜>",
    ),
    "Qwen 3": Form(
        QWEN3,
        eos="<|im_end|>",
        special=("<|im_start|>",),
        words=("<think>", "</think>"),
        prompt="<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n",
        answer=THOUGHT + BOX,
        trained=THOUGHT + BOX + "<|im_end|>",
        graded=THOUGHT + BOX,
        earlier="<|im_start|>assistant\n" + BOX + "<|im_end|>\n",
    ),
    "Qwen 3, `enable_thinking: false`": Form(
        QWEN3,
        eos="<|im_end|>",
        special=("<|im_start|>",),
        words=("<think>", "</think>"),
        options={"enable_thinking": False},
        prompt="<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n",
        trained=BOX + "<|im_end|>",
        graded=BOX,
        earlier="<|im_start|>assistant\n" + BOX + "<|im_end|>\n",
    ),
    "Command R": Form(
        COHERE,
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
        special=("<|START_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        prompt="<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>1+1?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        trained=BOX + "<|END_OF_TURN_TOKEN|>",
        graded=BOX,
        earlier="<|CHATBOT_TOKEN|>" + BOX + "<|END_OF_TURN_TOKEN|>",
    ),
    "Granite 3": Form(
        GRANITE,
        eos="<|end_of_text|>",
        special=("<|start_of_role|>", "<|end_of_role|>"),
        prompt="<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>"
        "1+1?<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        trained=BOX + "<|end_of_text|>",
        graded=BOX,
        earlier="assistant<|end_of_role|>" + BOX + "<|end_of_text|>\n",
    ),
    "harmony (GPT-OSS)": Form(
        HARMONY,
        eos="<|return|>",
        special=("<|start|>", "<|message|>", "<|channel|>", "<|end|>"),
        prompt="<|start|>developer<|message|>Be brief.<|end|><|start|>user<|message|>1+1?<|end|><|start|>assistant",
        trained="<|channel|>final<|message|>" + BOX + "<|return|>",
        graded="<|channel|>final<|message|>" + BOX,
        earlier="<|start|>assistant<|channel|>final<|message|>" + BOX + "<|end|>",
    ),
}
