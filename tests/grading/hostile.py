"""Answers made to exhaust, execute or deceive a grader."""
# ruff: noqa: E501 - rows of data

MARK = "/tmp/harness-grading-executed"

BOMBS = [
    "9^{9^{9^9}}", "9**9**9**9**9", "10^{10^{10}}!", "100000!", "(10^6)!!", r"\binom{10^9}{5\cdot10^8}", "2^{2^{2^{2^{2^{2}}}}}",
    "(" * 5000 + "1" + ")" * 5000, r"\frac{" * 2000 + "1" + "}{2}" * 2000, r"\sqrt{" * 3000 + "2" + "}" * 3000, "x^" * 1500 + "x",
    "9" * 100_000, "1" + "0" * 900 + "!", "1e999999999", "1e-999999", "0." + "3" * 50_000, "+".join(f"x_{i}" for i in range(5000)),
    ",".join(str(i) for i in range(20_000)), ",".join(f"\\sqrt{{{i}}}" for i in range(150)), "(x+1)^{1000000}", "(x+y+z)^{5000}", r"\sum_{k=1}^{10^{12}} k",
    r"\sum_{k=1}^{10^{9}} \frac{1}{k^2+1}", r"\int_0^1 e^{e^{e^{x^2}}} dx", r"\prod_{k=1}^{10^8}(1+\frac{1}{k^{k}})", r"\int \frac{\sin(x^x)}{\ln(1+x^{17})} dx",
    r"\begin{pmatrix}" + r"\\".join("&".join("1" for _ in range(60)) for _ in range(60)) + r"\end{pmatrix}", "\\pm" * 500 + "1", r"1\pm2" * 30,
    "|" * 3001 + "x" + "|" * 3001, "{" * 10_000, "}" * 10_000, "$" * 10_001, "\\boxed{" * 5000, "\\text{" * 5000, "1," * 20_000, " " * 100_000 + "x", "a" * 60_000,
    "-" * 3000 + "1", "!" * 500, "5" + "!" * 300, "5" + "%" * 2000, "1/" * 1000 + "1", "\\frac" * 1000, "^" * 1000, "x_{" * 1000, "answer is " * 5000, "\\(" * 5000,
    r"\sin(" * 300 + "x" + ")" * 300, r"\log_{2}" * 300 + "8", r"\cos(10^{10^{10}})", r"e^{e^{e^{e^{10}}}}", r"10^{-10^{15}}", r"\lfloor 10^{10^{9}}\pi \rfloor", "7^{7^{7^{7}}} \\bmod 10",
    r"\gcd(10^{5000}, 10^{4999})", r"\sqrt[10^{100}]{2}", "0^0", "1/0", r"\frac{0}{0}", r"\infty-\infty", r"0\cdot\infty", r"\log 0", r"\tan\frac{\pi}{2}", "٩" * 5000, "\u202e5", "\x00", "5\x00",
    r"\begin{cases}" * 500, r"\{" * 2000 + "1" + r"\}" * 2000, "x=" * 1500 + "1", "1<" * 1500 + "2", "1:" * 1000 + "1", r"\cup".join(f"({i},{i + 1})" for i in range(600)), "a(" * 500 + "1" + ")" * 500,
    r"\frac{d}{dx}" * 200 + "x", r"\left(" * 2000, "\\" * 10_001, "\\over" * 500, "a\\over b" * 200, r"{" + r"a \over b" * 300 + "}", "is is is " * 3000 + "5", "(" * 39 + "1,2" + ")" * 39, "\\quad" * 3000,
]  # fmt: skip
"""Each alone is a resource bomb or a degenerate input; none equals 1."""

INJECTIONS = [
    f"__import__('os').system('touch {MARK}')", f"exec(\"open('{MARK}','w')\")", f"eval(\"open('{MARK}','w')\")", f"(lambda: open('{MARK}','w'))()",
    "().__class__.__bases__[0].__subclasses__()", "x.__class__", f"print(open('{MARK}','w'))", f"\\input{{{MARK}}}", f"\\write18{{touch {MARK}}}", f"`touch {MARK}`", f"$(touch {MARK})", f"; touch {MARK};",
    f"f\"{{open('{MARK}','w')}}\"", f"sympy.sympify(\"open('{MARK}','w')\")", f"\\operatorname{{__import__('os').system('touch {MARK}')}}", f"Symbol('x').func(open('{MARK}','w'))", "lambda x: x", f"np.array(open('{MARK}','w'))",
    f"\\text{{__import__('os').system('touch {MARK}')}}", f"[x for x in [open('{MARK}','w')]]", f"{{{{open('{MARK}','w')}}}}", "%s%s%s%n", "${7*7}", "{{7*7}}", "__builtins__", f"1 if open('{MARK}','w') else 2",
]  # fmt: skip
