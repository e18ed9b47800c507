"""Whole responses with their gold answers, labelled by hand."""
# ruff: noqa: E501 - rows of data

RIGHT = [
    ("42", r"So the total is $\boxed{42}$."), ("42", "#### 42"), ("1234", "blah\n#### 1,234"), ("42", "# Answer\n\n42"), ("42", "The answer is 42."), ("42", "The answer is: 42"), ("42", "Final answer: 42"),
    ("42", "**Final Answer:** 42"), ("42", "**Answer:** 42"), ("42", "Answer: $42$ dollars"), ("42", "The final answer is $42$. I hope it is correct."), ("42", "<think>maybe 41</think>\nThe answer is 42"),
    ("42", "<think>41? \\boxed{41}</think> \\boxed{42}"), ("42", "<answer>42</answer>"), ("42", "<answer> \\boxed{42} </answer>"), ("42", "so we get 42"), ("42", "x = 42"), ("42", "6*7 = 42"), ("1/2", "The probability is 1/2."),
    (r"\frac{1}{2}", r"Thus the probability is \(\frac{1}{2}\)."), (r"\frac{1}{2}", r"\[ P = \boxed{\frac{1}{2}} \]"), ("B", "The correct answer is (B)."), ("B", "Answer: B"), ("B", "ANSWER: B"), ("B", "I think it's B"), ("B", "Therefore, the answer is (B) 12."),
    ("B", r"\boxed{B}"), ("B", r"\boxed{\text{(B)}}"), ("B", "Final Answer: (B)"), ("B", "The answer is **B**."), ("B", "(B)"), ("B", "The best option is B, since A is too small."), ("D", "Option D is correct."), ("even", "The answer is even."), ("no", "The answer is no."),
    ("3,4", r"The solutions are $\boxed{3}$ and $\boxed{4}$."), ("3,4", r"x = \boxed{3}, \boxed{4}"), ("(1,2)", r"so $(x,y)=\boxed{(1,2)}$"), (r"\frac{a}{b}", r"it equals $\boxed{\frac{a}{b}}$ where $a\neq 0$"), ("5", r"First \boxed{4}. Then I noticed an error. So \boxed{5}."),
    ("5", r"\boxed{\boxed{5}}"), ("5", r"$$\boxed{5}$$"), ("5", r"\boxed 5"), ("5", r"\fbox{5}"), ("5", r"\boxed{x=5}"), ("10", "She has $10 left. The answer is $10."), ("18", "She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18"), ("70000", "The profit is $70,000"), ("-3", "the minimum is -3"),
    ("3", "The answer is 3 apples."), ("50%", "The answer is 50%."), ("0.5", "That gives 0.5"), ("2", "The answer is $\\sqrt{4}$."), ("7", "Total: 7"), ("42", "答案是42。"), ("42", "所以答案为：42"), ("42", "La réponse est 42."), ("42", "Die Antwort ist 42."), ("42", "La respuesta es 42."),
    (r"x^2+1", "The answer is $x^2+1$."), (r"x^2+1", "f(x) = x^2+1"), ("2", "Hence the answer is therefore 2"), ("12", "Area = 12 square cm"), ("A", "A. because the others fail"), ("C", "Let me see. The answer must be C"), ("42", "The answer is \\(42\\)."), ("42", "\\[\n\\boxed{42}\n\\]\n\nDone."), ("1,2,3", "The answer is 1, 2, and 3."),
    ("11", "```python\nprint(5+6)\n```\nThe output is 11"), ("8", "Answer:\n8"), ("8", "The answer is\n\n8"), ("8", "The answer is:\n$$8$$"), ("3.5", "The answer is 3.5."), ("1000000", "The answer is 1,000,000."), ("42", "The answer is **42**."), ("6", "Therefore $x=6$."), (r"\{1,2\}", "The answer is $\\{1,2\\}$."),
    ('42', '{"answer": 42}'), ('42', '```json\n{"reasoning": "6*7", "answer": "42"}\n```'), ('1,2', 'The solutions are $x = 1$ and $x = 2$.'), ('\\sqrt{2}', 'The length is √2.'), ('4\\pi', 'The area is 4π square units.'),
]  # fmt: skip

WRONG = [
    ("42", r"So the total is $\boxed{41}$."), ("42", "The answer is 41, not 42."), ("4", "The answer is 4 or 5."), ("4", r"\boxed{4 \text{ or } 5}"), ("42", "<think>it is \\boxed{42}"), ("42", ""), ("42", "I do not know."), ("B", "The answer is C."), ("B", "A or B"), ("3,4", r"\boxed{3}"), ("3", r"\boxed{3} and \boxed{4}"),
    ("5", r"\boxed{5} is what I first thought, but it is \boxed{6}."), ("5", r"\boxed{}"), ("42", "<think>42</think> The answer is 43"), ("1/3", "The answer is 0.33."), ("B", "not sure"), ("(1,2)", r"\boxed{(2,1)}"), ("42", "#### 24"), ("1", "\\boxed{\\text{All of 1, 2, 3}}"), ("5", "The answer is -5."), ("12", "#### 1\n#### 2"),
    ('42', 'The answer is not 42.'), ('42', 'so we get \\boxed{42'), ('42', '<think>\\boxed{42}</think>'), ('42', '{"answer": 43}'), ('4', 'The area is 4π square units.'),
]  # fmt: skip
