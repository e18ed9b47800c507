"""The prompt templates that only evaluation uses; those that training shares stand in `harness.prompts.templates`."""

from __future__ import annotations

from harness.prompts.templates import LINES, PARAGRAPHS, PromptTemplate

_GSM8K_SHOTS = (
    (
        "A baker packs 6 rolls in each bag and fills 9 bags. If 14 rolls are left over, how many rolls did she bake?",
        " The bags hold 6 * 9 = 54 rolls.\nWith the rest that makes 54 + 14 = 68 rolls.\n#### 68",
    ),
    (
        "Omar reads 35 pages on Monday and twice as many on Tuesday. His book has 180 pages. "
        "How many pages are left after Tuesday?",
        " On Tuesday he reads 2 * 35 = 70 pages.\nTogether he has read 35 + 70 = 105 pages.\n"
        "There are 180 - 105 = 75 pages left.\n#### 75",
    ),
    (
        "Four friends share the cost of a $52 gift equally. One of them pays for a $7 card as well. "
        "How many dollars does that friend spend?",
        " Each friend pays 52 / 4 = 13 dollars for the gift.\n"
        "With the card the friend spends 13 + 7 = 20 dollars.\n#### 20",
    ),
    (
        "A tank loses 3 litres of water every 2 hours. It holds 60 litres now. "
        "How many litres will it hold in 8 hours?",
        " In 8 hours there are 8 / 2 = 4 periods of 2 hours.\nThe tank loses 4 * 3 = 12 litres.\n"
        "It will hold 60 - 12 = 48 litres.\n#### 48",
    ),
)

_MATH_SHOTS = (
    (
        "Find the sum of all real solutions of $x^2-7x+10=0$.",
        "The left side factors into $(x-2)(x-5)$, so the solutions are $2$ and $5$. "
        "Their sum is $2+5=7$, so the answer is $\\boxed{7}$.",
    ),
    (
        "A fair die is rolled twice. What is the probability that both numbers are even?",
        "Each roll is even with probability $\\frac{3}{6}=\\frac12$, and the rolls are independent, so the "
        "probability is $\\frac12\\cdot\\frac12=\\frac14$. The answer is $\\boxed{\\frac{1}{4}}$.",
    ),
    (
        "Simplify $\\sqrt{50}+\\sqrt{18}$.",
        "Since $50=25\\cdot2$ and $18=9\\cdot2$, the sum is $5\\sqrt2+3\\sqrt2=8\\sqrt2$. "
        "The answer is $\\boxed{8\\sqrt{2}}$.",
    ),
    (
        "For which values of $t$ is $3t-4<11$? Give an interval.",
        "Adding $4$ gives $3t<15$, and dividing by $3$ gives $t<5$. The answer is $\\boxed{(-\\infty,5)}$.",
    ),
)

_CHOICE_SHOTS = (
    (
        "Which of these is a liquid at room temperature?\n(A) iron\n(B) water\n(C) oxygen\n(D) salt",
        " Iron and salt are solids and oxygen is a gas at room temperature, while water is a liquid.\n"
        "Final answer: (B)",
    ),
    (
        "A shirt costs $40 and is sold at a discount of 25%. What is its price?\n(A) $15\n(B) $25\n(C) $30\n(D) $35",
        " The discount is 0.25 * 40 = 10 dollars, so the price is 40 - 10 = 30 dollars.\nFinal answer: (C)",
    ),
)

_CODE_SHOTS = (
    (
        'def count_vowels(text: str) -> int:\n    """How many of the letters a, e, i, o, u a text holds."""\n',
        '\n```python\ndef count_vowels(text: str) -> int:\n    return sum(letter in "aeiou" for letter in text)\n```',
    ),
    (
        "Read whole numbers from one line and print the largest.",
        "\n```python\nprint(max(map(int, input().split())))\n```",
    ),
)
_CODE = "{question}\n\nSolve this in Python. Give the whole program, with its imports, in one ```python block."

_CRUXEVAL = (
    "```python\n{question}\n```\n\nWhat must stand in place of ?? for the assertion to hold? Reason step by step, then "
    "write that Python literal alone, without the function, between <answer> and </answer>."
)

_CRUXEVAL_INPUT = (
    "```python\n{question}\n```\n\nWhich arguments in place of ?? make the assertion hold? Any that do are right. "
    "Reason step by step, and end with a block of Python with a function that returns them as a tuple, such as\n"
    "```python\ndef arguments():\n    return (1, 'a')\n```"
)

_ZERO_SHOT = "{question}\n\nReason step by step and put the final answer in \\boxed{}."
_ZERO_SHOT_ZH = "{question}\n\n请逐步推理，并把最终答案放在 \\boxed{} 中。"

EVAL_TEMPLATES: dict[str, PromptTemplate] = {
    template.name: template
    for template in (
        PromptTemplate("zero_shot", user=_ZERO_SHOT, chat=True, steps=PARAGRAPHS),
        PromptTemplate(
            "zero_shot_zh",
            user="{question}\n\n请逐步推理，并把最终答案放在 \\boxed{} 中。",
            chat=True,
            steps=PARAGRAPHS,
        ),
        PromptTemplate(
            "gsm8k_few_shot",
            user="Question: {question}\nAnswer:",
            few_shot=_GSM8K_SHOTS,
            stop=("\n\nQuestion:",),
            steps=LINES,
            answer_protocol="gsm8k",
        ),
        PromptTemplate(
            "math_few_shot",
            user="Problem: {question}\nSolution: ",
            few_shot=_MATH_SHOTS,
            stop=("\n\nProblem:",),
            steps=LINES,
            answer_protocol="boxed",
        ),
        PromptTemplate(
            "choice_few_shot",
            user="Question: {question}\nAnswer:",
            few_shot=_CHOICE_SHOTS,
            stop=("\n\nQuestion:",),
            steps=LINES,
            answer_protocol="final_answer",
        ),
        PromptTemplate("code", user=_CODE, chat=True),
        PromptTemplate(
            "code_few_shot",
            user="Problem: {question}\nSolution:",
            few_shot=_CODE_SHOTS,
            stop=("\n\nProblem:",),
        ),
        PromptTemplate("instruction", user="{question}", chat=True),
        PromptTemplate(
            "bbeh",
            user="{question}\n\nThink step by step, and end your response with: The answer is: (your answer)",
            chat=True,
            steps=PARAGRAPHS,
            answer_protocol="bbeh",
        ),
        PromptTemplate(
            "cruxeval_output",
            user=_CRUXEVAL,
            chat=True,
            steps=PARAGRAPHS,
            answer_protocol="tag",
        ),
        PromptTemplate(
            "cruxeval_input",
            user=_CRUXEVAL_INPUT,
            chat=True,
            steps=PARAGRAPHS,
            answer_protocol="default",
        ),
        PromptTemplate(
            "choice",
            user="{question}\n\nReason step by step and end with a line of the form: Final answer: (letter)",
            chat=True,
            steps=PARAGRAPHS,
            answer_protocol="final_answer",
        ),
    )
}
