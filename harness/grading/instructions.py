"""Instructions that a program can check, as IFEval asks them (arXiv:2311.07911, google-research).

Each is checked as the published program does it, its oddities included: a keyword is a regular expression, a language
that cannot be told counts as right, bullets begin with `*` or `-`. Two things are ours, so that verdicts depend on no
download and no chance: sentences are counted by NLTK's Punkt with a fixed list of abbreviations instead of the trained
English model, and the language detector draws with a fixed seed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from harness.errors import InputError
from harness.grading.extract import without_thought
from harness.grading.verdict import Verdict
from harness.types import Instruction

Check = Callable[..., bool]
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
ABBREVIATIONS = (
    "mr mrs ms dr prof sr jr st vs etc i.e e.g u.s u.k u.n a.m p.m inc ltd co corp fig no vol jan feb mar apr aug sept "
    "sep oct nov dec gen col sgt capt rev hon gov sen rep approx dept est ph.d"
)
_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "less than": lambda found, wanted: found < wanted,
    "at least": lambda found, wanted: found >= wanted,
}


def follows(instruction: Instruction, response: str) -> bool:
    """Whether a response follows an instruction; an empty one follows none."""
    return bool(response.strip()) and INSTRUCTIONS[instruction.name](response, **_arguments(instruction.arguments))


def follows_loosely(instruction: Instruction, response: str) -> bool:
    """Whether a response follows it as it is, or without its first line, its last line, both, or its asterisks."""
    lines = response.split("\n")
    cuts = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return any(follows(instruction, text) for cut in cuts for text in (cut, cut.replace("*", "")))


def verdict(instructions: Sequence[Instruction], response: str) -> Verdict:
    """Right if what follows its thought follows all; the answer names those that it does not follow."""
    text = without_thought(response)
    broken = [instruction.name for instruction in instructions if not follows(instruction, text)]
    return Verdict(not broken, f"not {', '.join(broken)}" if broken else "all", "instructions")


def check_instruction(instruction: Instruction, place: str) -> None:
    """Raise `InputError` unless the instruction is known, its arguments fit, and what it needs is installed."""
    if instruction.name not in INSTRUCTIONS:
        raise InputError(f"{place}: unknown instruction '{instruction.name}'; known: {', '.join(INSTRUCTIONS)}.")
    try:
        follows(instruction, "A test.")
    except (TypeError, AttributeError, re.error) as error:
        raise InputError(
            f"{place}: the arguments {instruction.arguments} do not fit '{instruction.name}' ({error})."
        ) from None
    except ModuleNotFoundError as error:
        raise InputError(f"{place}: '{instruction.name}' needs {error.name}; pip install nltk langdetect.") from None


@cache
def _arguments(text: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(text).items() if value}


def _relation(found: int, relation: str, wanted: int) -> bool:
    if relation not in _RELATIONS:
        raise InputError(f"relation '{relation}' is unknown; known: {', '.join(_RELATIONS)}.")
    return _RELATIONS[relation](found, wanted)


def _language(response: str, language: str) -> bool:
    import langdetect

    try:
        langdetect.DetectorFactory.seed = 0
        return str(langdetect.detect(response)) == language
    except langdetect.LangDetectException:  # nothing in it tells a language
        return True


@cache
def _sentence_tokenizer() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(ABBREVIATIONS.split())
    return PunktSentenceTokenizer(parameters)


def _capital_words(response: str) -> int:
    from nltk.tokenize import NLTKWordTokenizer

    return sum(word.isupper() for word in NLTKWordTokenizer().tokenize(response))


def _bullets(response: str, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", response, flags=re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", response, flags=re.MULTILINE)) == num_bullets


def _highlights(response: str, num_highlights: int) -> bool:
    single = re.findall(r"\*([^\n\*]*)\*", response)
    double = re.findall(r"\*\*([^\n\*]*)\*\*", response)
    return sum(bool(text.strip()) for text in [*single, *double]) >= num_highlights


def _sections(response: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.split(rf"\s?{section_spliter.strip()}\s?\d+\s?", response)) - 1 >= num_sections


def _paragraphs(response: str, num_paragraphs: int) -> bool:
    """Parted by `***`; the first and the last may be empty, none between them."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", response)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == num_paragraphs


def _first_word(response: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    paragraphs = response.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if nth_paragraph > count or not (words := paragraphs[nth_paragraph - 1].split()):
        return False
    word = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'))[0]
    return count == num_paragraphs and word.lower() == first_word.lower()


def _postscript(response: str, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    patterns = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    pattern = patterns.get(marker, rf"\s*{marker.lower()}.*$")
    return re.search(pattern, response.lower(), flags=re.MULTILINE) is not None


def _json(response: str) -> bool:
    text = response.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _two_responses(response: str) -> bool:
    parts = [part.strip() for part in response.split("******")]
    found = [part for part in parts if part]
    return all(parts[1:-1]) and len(found) == 2 and found[0] != found[1]


def _quoted(response: str) -> bool:
    text = response.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _count(pattern: str, response: str) -> int:
    return len(re.findall(pattern, response, flags=re.IGNORECASE))


INSTRUCTIONS: dict[str, Check] = {
    "punctuation:no_comma": lambda response: "," not in response,
    "length_constraints:number_words": lambda response, num_words, relation: _relation(
        len(re.findall(r"\w+", response)), relation, num_words
    ),
    "length_constraints:number_sentences": lambda response, num_sentences, relation: _relation(
        len(_sentence_tokenizer().tokenize(response)), relation, num_sentences
    ),
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "keywords:existence": lambda response, keywords: all(_count(word, response) for word in keywords),
    "keywords:forbidden_words": lambda response, forbidden_words: (
        not any(_count(rf"\b{word}\b", response) for word in forbidden_words)
    ),
    "keywords:frequency": lambda response, keyword, frequency, relation: _relation(
        _count(keyword.strip(), response), relation, frequency
    ),
    "keywords:letter_frequency": lambda response, letter, let_frequency, let_relation: _relation(
        Counter(response.lower())[letter.strip().lower()], let_relation, let_frequency
    ),
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:title": lambda response: any(
        title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", response)
    ),
    "detectable_format:json_format": _json,
    "detectable_format:constrained_response": lambda response: any(answer in response for answer in ANSWERS),
    "detectable_content:number_placeholders": lambda response, num_placeholders: (
        len(re.findall(r"\[.*?\]", response)) >= num_placeholders
    ),
    "detectable_content:postscript": _postscript,
    "combination:repeat_prompt": lambda response, prompt_to_repeat: (
        response.strip().lower().startswith(prompt_to_repeat.strip().lower())
    ),
    "combination:two_responses": _two_responses,
    "startend:end_checker": lambda response, end_phrase: (
        response.strip().strip('"').lower().endswith(end_phrase.strip().lower())
    ),
    "startend:quotation": _quoted,
    "change_case:english_capital": lambda response: response.isupper() and _language(response, "en"),
    "change_case:english_lowercase": lambda response: response.islower() and _language(response, "en"),
    "change_case:capital_word_frequency": lambda response, capital_frequency, capital_relation: _relation(
        _capital_words(response), capital_relation, capital_frequency
    ),
    "language:response_language": _language,
}
"""The 25 kinds that IFEval's 541 prompts ask for."""
