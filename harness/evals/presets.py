"""Settings of sampling that suit a kind of model, where nothing else is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.errors import InputError
from harness.prompts.chats import thinks
from harness.prompts.templates import PromptTemplate

AUTO = "auto"


@dataclass(frozen=True)
class Preset:
    """What an option that is not given is; None is the task's own default."""

    name: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None

    def __str__(self) -> str:
        return (
            f"--preset {self.name}: up to {self.max_tokens} tokens, temperature {self.temperature:g}, "
            f"top-p {self.top_p:g} where not given"
        )


NONE = Preset("none")
# What the cards of models that think before they answer recommend (DeepSeek-R1, Qwen 3, and models made from them).
REASONING = Preset("reasoning", max_tokens=32768, temperature=0.6, top_p=0.95)
PRESETS = {preset.name: preset for preset in (NONE, REASONING)}


def check_preset(name: str) -> None:
    """Raise `InputError` for an unknown name."""
    if name not in (AUTO, *PRESETS):
        raise InputError(f"unknown preset '{name}'; known: {', '.join((AUTO, *PRESETS))}.")


def find_preset(name: str, template: PromptTemplate, tokenizer: Any) -> Preset:
    """The preset of a name; "auto" is that for reasoning where the chat template lets the model think, else none."""
    check_preset(name)
    if name == AUTO:
        return REASONING if template.chat and thinks(tokenizer, template.chat_options) else NONE
    return PRESETS[name]
