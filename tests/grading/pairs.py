"""Pairs of answers by kind, labelled by hand: what people who mark mathematics take for the same, and what they do not."""
# ruff: noqa: E501 - rows of data

SAME = {
    "integers": [
        ("5", "5.0"), ("5", "+5"), ("1000", "1,000"), ("1000", r"1\,000"), ("1000", "1{,}000"), ("1000000", r"1,\!000,\!000"),
        ("-7", "−7"), ("007", "7"), ("42", "４２"), ("5", "٥"), ("12", "12."), ("0", "-0"), ("0", "0.00"), ("10000", "10^4"),
        ("8", "2^3"), ("120", "5!"), ("3", r"\frac{6}{2}"), ("5", "five"), ("12345678901234567890", "12,345,678,901,234,567,890"),
        ("5", r"\mathbf{5}"), ("5", "**5**"), ("7", r"$\boxed{7}$"), ("2", r"\sqrt{4}"), ("-2", r"\sqrt[3]{-8}"), ("6", r"\binom{4}{2}"),
        ("4", "|-4|"), ("3", r"\lfloor \pi \rfloor"), ("2", r"\log_2 4"), ("2", r"\log 100"), ("1", r"\ln e"),
    ],
    "fractions": [
        ("1/2", "0.5"), (r"\frac{1}{2}", "1/2"), (r"\frac12", ".5"), (r"\dfrac{3}{4}", r"\tfrac34"), ("-1/2", r"\frac{-1}{2}"),
        ("-1/2", r"\frac{1}{-2}"), ("2/4", "1/2"), ("1/3", r"0.\overline{3}"), ("1/3", r"\frac{2}{6}"), ("½", "0.5"),
        ("7/2", r"3\frac{1}{2}"), ("3.5", "3 1/2"), (r"-1\frac{1}{2}", "-3/2"), (r"\frac{11}{9}", r"1.\overline{2}"), ("3 1/2", "3½"),
        (r"\frac{a}{b}", "a/b"), (r"\frac{1}{432}", r"2.3148148148148148\times 10^{-3}"), ("0.1", "1/10"), ("3/8", "0.375"),
        (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"), (r"{1 \over 2}", "0.5"), ("1/12", "0.08333333333333333"), ("2/3", "0.6666666666666666"),
    ],
    "percent": [
        (r"50\%", "0.5"), (r"50\%", "1/2"), (r"50\%", "50"), ("50", r"50\%"), ("0.5", "50%"), ("12.5%", "1/8"), ("25 percent", "25%"),
        (r"33\frac{1}{3}\%", "1/3"), ("100%", "1"), ("5%", "5 %"), (r"\$50\%$", "50%"),
    ],
    "currency and units": [
        ("$5", "5"), (r"\$5.50", "5.5"), ("$1,234.50", "1234.5"), ("5 dollars", "$5"), (r"\$0.50", "50 cents"), ("10 cm", "10"),
        (r"10\text{ cm}", "10 cm"), (r"10\,\mathrm{cm}", "10cm"), ("100 cm", "1 m"), ("2 hours", "120 minutes"), ("60 mph", "60 miles per hour"),
        ("5 km/h", r"5\ \text{km/h}"), (r"12\text{ cm}^2", "12 square centimeters"), ("12 m^2", r"12\text{ m}^{2}"), ("3 apples", "3"), ("3 apples", "3 apple"),
        ("£20", "20"), ("€20", "20 euros"), ("1.5 million", "1500000"), ("2 dozen", "24"), (r"90^\circ", "90"), (r"90^\circ", "90 degrees"),
        ("90°", r"90^{\circ}"), (r"\frac{\pi}{2}", r"90^\circ"), ("5 ft", "5 feet"), ("5 m/s", r"5\text{ m/s}"), ("16\\text{ units}", "16"),
        (r"\frac{3}{4}\text{ inches}", "0.75"), ("20 \\text{ square units}", "20"), ("5 kg", "5000 g"), ("37°C", "37"), ("15 cm³", r"15\text{ cm}^3"),
        ("5 m", r"5\text{ m}"), ("72元", "72"), ("5 小时", "5 hours"), ("12平方厘米", r"12\text{ cm}^2"), ("5 people", "5 persons"),
        ("x = 5 cm", "5"), (r"4\sqrt{2}\text{ cm}", r"4\sqrt{2}"), ("3,000 meters", "3 km"), (r"9.8 \, \text{m/s}^2", r"9.8\ \mathrm{m/s^2}"), ("about 5", "5"),
    ],
    "scientific": [
        ("1.5e3", "1500"), (r"1.5\times 10^3", "1500"), (r"3 \cdot 10^{-2}", "0.03"), ("2.5E-4", "0.00025"), (r"6.02\times10^{23}", r"60.2 \times 10^{22}"),
        ("1e5", "100000"), ("10^{-3}", "0.001"), (r"1.6 × 10⁻¹⁹", r"1.6\times 10^{-19}"),
    ],
    "radicals and constants": [
        (r"2\sqrt{3}", r"\sqrt{12}"), (r"\frac{\sqrt{6}}{3}", r"\sqrt{\frac{2}{3}}"), (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}"), (r"\sqrt{3}/3", r"1/\sqrt{3}"),
        (r"2\pi", "2π"), (r"\frac{\pi}{6}", r"\arcsin\frac12"), (r"e^2", r"\exp(2)"), (r"\ln 8", r"3\ln 2"), (r"\log_2 3", r"\frac{\ln 3}{\ln 2}"),
        ("√2", "sqrt(2)"), ("2√3", "2*sqrt(3)"), (r"\sqrt[3]{2}", "2^{1/3}"), (r"\frac{1+\sqrt5}{2}", r"\frac{2}{\sqrt{5}-1}"), (r"\sin 30^\circ", "1/2"),
        (r"\cos\frac{\pi}{3}", "0.5"), (r"\tan(\pi/4)", "1"), (r"\sqrt{50}", r"5\sqrt2"), (r"3-2\sqrt{2}", r"(\sqrt2-1)^2"), (r"\log_{10} 2", r"\lg 2"),
        (r"\cos 36^\circ", r"\frac{1+\sqrt5}{4}"), (r"\sin^2 x + \cos^2 x", "1"), (r"2^{100}", r"4^{50}"), (r"\frac{100!}{98!}", "9900"), (r"\tan 15^\circ", r"2-\sqrt3"),
    ],
    "complex": [
        (r"e^{i\pi}", "-1"), (r"e^{i\theta}", r"\cos\theta+i\sin\theta"), ("2+3i", "3i+2"), (r"\frac{1}{i}", "-i"), ("i^2", "-1"),
        (r"(1+i)^2", "2i"), (r"\frac{1}{2}+\frac{\sqrt3}{2}i", r"e^{i\pi/3}"), (r"\cos x", r"\frac{e^{ix}+e^{-ix}}{2}"), (r"\sin x", r"\frac{e^{ix}-e^{-ix}}{2i}"),
        (r"|3+4i|", "5"), ("5i", r"5\mathrm{i}"), (r"\frac{1-i}{2}", r"\frac{1}{1+i}"), (r"z = 2 - i", "2-i"), (r"\overline{3+4i}", "3-4i"), (r"\sqrt{-4}", "2i"),
        (r"\cosh(x)", r"\cos(ix)"),
    ],
    "expressions": [
        ("x^2+2x+1", "(x+1)^2"), ("2x+3", "3+2x"), ("x(x+1)", "x^2+x"), ("ab", "ba"), ("a b", "b*a"), (r"\frac{x^2-1}{x-1}", "x+1"), ("x**2", "x^2"),
        (r"\operatorname{arccosh}(x)", r"\operatorname{arcosh} x"), (r"\tan x", r"\frac{\sin x}{\cos x}"), (r"\sec^2 x", r"1+\tan^2 x"), (r"\sin 2x", r"2\sin x\cos x"),
        (r"\sin^{-1}(x)", r"\arcsin x"), (r"\cos 2x", r"1-2\sin^2 x"), ("x^{-1}", r"\frac1x"), (r"\ln(x^2)-\ln x", r"\ln x"), (r"\frac{n!}{(n-2)!}", "n(n-1)"),
        (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"), ("n^2-n", "n(n-1)"), (r"\sqrt{x^2}", "|x|"), (r"(-1)^n", r"\cos(n\pi)"), (r"2^{n+1}-2^n", "2^n"),
        ("x^2y", "yx^2"), (r"\frac{1}{2}gt^2", r"\frac{gt^2}{2}"), ("5x^{3}", "5x^3"), (r"\sqrt{\frac{a}{b}}", r"\frac{\sqrt{ab}}{b}"), ("e^{2x}", "(e^x)^2"), (r"\theta", "θ"),
        (r"-\frac{x}{2}+1", "1-x/2"), ("x_1+x_2", "x_2+x_1"), (r"\frac{m_1 m_2}{r^2}", r"m_1m_2r^{-2}"), ("1/2 x", r"\frac{x}{2}"), (r"2\sinh x", "e^x-e^{-x}"), ("x^3-3x+C", "C+x^3-3x"),
        (r"\log_a b", r"\frac{\ln b}{\ln a}"), (r"\operatorname{arsinh}(x)", r"\ln(x+\sqrt{x^2+1})"), (r"\lvert x-1\rvert", r"|1-x|"), (r"\left|\frac{x}{2}\right|", r"\frac{|x|}{2}"),
    ],
    "assignments": [
        ("5", "x=5"), ("x=5", "5"), ("x = 5", "5 = x"), ("x=5", "$x = 5$"), ("f(x)=2x", "2x"), ("f(x) = x^2", "y = x^2"), ("f(x)=x+1", "f(t)=t+1"), ("y=2x+1", "2x+1"),
        (r"\angle A = 30^\circ", "30"), ("AB = 5", "5"), ("P(A)=1/3", r"\frac13"), ("a_n = 2n+1", "2n+1"), (r"\cos A = \frac{3}{5}", "3/5"), ("S_{ABC} = 12", "12"),
        ("|AB| = 5", "5"), ("m = 3", "3"), (r"\frac{AB}{CD}=2", "2"), (r"\theta = 60^\circ", r"60^\circ"), ("2+3=5", "5"), (r"x = \frac{10}{2} = 5", "5"), ("f'(x)=2x", "2x"),
        (r"\frac{dy}{dx} = 2x", "2x"), ("f^{-1}(x)=x-1", "x-1"), (r"\sqrt2 \approx 1.414", r"\sqrt2"), (r"\mathbf{v} = (1,2)", "(1,2)"), ("V = 12", "12"), ("z=1+i", "1+i"),
    ],
    "equations": [
        ("x+y=1", "y=1-x"), ("2x+2y=2", "x+y=1"), ("y=2x+1", "2x-y+1=0"), ("x^2+y^2=4", "y^2=4-x^2"), ("x^2+y^2=4", r"\frac{x^2}{4}+\frac{y^2}{4}=1"), ("xy=1", r"y=\frac1x"),
        ("y = x/(x+1)", "y(x+1)=x"), (r"(x-1)^2+(y+2)^2=9", "x^2+y^2-2x+4y-4=0"), ("3x-4y+5=0", "-3x+4y-5=0"), (r"y=\frac{3}{4}x+\frac54", "3x-4y+5=0"), ("E=mc^2", "mc^2=E"),
        ("a=b", "b=a"), ("x-2y+z-1=0", "x+z=2y+1"), (r"\frac{x}{3}+\frac{y}{4}=1", "4x+3y=12"), ("r=2\\cos\\theta", "r = 2\\cos\\theta"), ("y^2=4x", r"x=\frac{y^2}{4}"), ("x=2", "2x=4"), ("x=2", "x-2=0"),
    ],
    "lists": [
        ("1,2", "2,1"), ("1, 2, 3", "3,2,1"), ("1 and 2", "1, 2"), ("x=1 or x=2", "1, 2"), ("x=1, x=2", "x=2, x=1"), ("x=1, 2", "1,2"), (r"\pm 2", "2, -2"), (r"x = \pm 2", "x=2 or x=-2"),
        (r"1\pm\sqrt2", r"1-\sqrt2, 1+\sqrt2"), (r"\{1,2\}", "2, 1"), ("1; 2", "1, 2"), (r"x_1 = 1, x_2 = 3", "1, 3"), ("3, -1", r"\{-1, 3\}"), (r"-1 \text{ and } 3", "3 and -1"),
        (r"(1,2),(3,4)", "(3,4), (1,2)"), ("x=1,y=2", "y=2,x=1"), ("x=1,y=2", "(x,y)=(1,2)"), ("x=1,y=2", "(1,2)"), ("a=1, b=2, c=3", "1, 2, 3"), (r"\pm\frac{1}{2}", "0.5, -0.5"), ("1,2,3", "1, 2, and 3"),
        (r"(\pm 1, 2)", "(1,2),(-1,2)"), (r"\sqrt{2}, -\sqrt{2}", r"\pm\sqrt{2}"), (r"2\pm 3i", "2+3i, 2-3i"), ("x=-1, x=3", "-1, 3"), (r"1, \frac{1}{2}", "0.5, 1"), (r"\boxed{1}, \boxed{2}", "1,2"), ("1、2", "1,2"),
        (r"1\text{ or }2", "2 or 1"), ("A, B", "B, A"),
    ],
    "tuples": [
        ("(1,2)", "(1, 2)"), ("(1,2)", r"\left(1, 2\right)"), (r"(\frac12, 3)", "(0.5, 3)"), ("(1,2,3)", "[1,2,3]"), ("(1,2)", "1,2"), (r"\langle 1,2,3\rangle", "(1,2,3)"), (r"(x,y)=(1,2)", "(1,2)"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"), ("(3, π/2)", r"\left(3,\frac{\pi}{2}\right)"), ("(0,0)", "(0, 0)"), ("（1，2）", "(1,2)"), ("(1,000, 5)", "(1000, 5)"), ("[0,1]", "[0, 1.0]"),
        (r"\left( \frac{3}{2}, -1 \right)", "(1.5, -1)"),
    ],
    "sets": [
        (r"\{1,2,3\}", r"\{3,2,1\}"), (r"\{1,1,2\}", r"\{1,2\}"), (r"\emptyset", r"\{\}"), (r"\emptyset", "∅"), (r"\{5\}", "5"), (r"\left\{1,2\right\}", "{1,2}"), (r"x\in\{1,2\}", r"\{1,2\}"),
        (r"\{1,2\}\cup\{3\}", r"\{1,2,3\}"), (r"\emptyset", "no solution"), (r"\mathbb{R}", "all real numbers"), (r"\{(1,2),(3,4)\}", r"\{(3,4),(1,2)\}"), (r"\{x | x > 3\}", r"(3,\infty)"),
        (r"\{x \mid -1 < x \le 2\}", "(-1,2]"), (r"\{x : x \ne 2\}", r"x\neq 2"), (r"\{x \in \mathbb{R} \mid x>0\}", r"(0,\infty)"), ("{1, 2, 3}", "1,2,3"),
    ],
    "intervals": [
        ("[1,2)", "[1, 2)"), (r"(-\infty, 3]", r"x \le 3"), (r"x>5", r"(5,\infty)"), ("1<x<2", "(1,2)"), (r"1\le x<2", "[1,2)"), (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty)\cup(-\infty,1)"),
        (r"x<1 \text{ or } x>2", r"(-\infty,1)\cup(2,\infty)"), (r"(-\infty,\infty)", r"\mathbb{R}"), (r"\mathbb{R}\setminus\{0\}", r"(-\infty,0)\cup(0,\infty)"), (r"x\ne 0", r"(-\infty,0)\cup(0,\infty)"),
        (r"[1,2]\cup[2,3]", "[1,3]"), (r"x\in[1,2]", r"1\le x\le 2"), ("2>x>1", "1<x<2"), ("x≥3", r"[3,\infty)"), (r"(0,\frac12)", "(0,0.5)"), (r"(-\infty, +\infty)", r"(-\infty,\infty)"), (r"[0, \pi]", r"0\leq x\leq\pi"),
        (r"x\geq 3", r"3\leq x"), (r"x \in (-1, 1)", "|x|<1"), ("]1,2[", "(1,2)"), (r"(-2,-1)\cup(-1,1)", r"-2<x<1, x\neq -1"), (r"a\in(1,2]", "1<a\\le 2"), (r"k \ge 1", r"k \geqslant 1"),
    ],
    "inequalities": [
        ("x<3", "-x>-3"), ("2x<6", "x<3"), ("x+y<1", "y<1-x"), ("2x+2y\\le 2", "x+y\\le 1"), ("a<b", "b>a"), ("a<b<c", "c>b>a"), (r"f(2)<f(1)", "f(1)>f(2)"), (r"x^2+y^2\le 4", r"4\ge x^2+y^2"), (r"-2x \geq 4", r"x \leq -2"),
        (r"x \neq 3", "x != 3"), (r"x - 3 > 0", "x > 3"),
    ],
    "matrices": [
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"), (r"\begin{pmatrix}1/2&0\end{pmatrix}", r"\begin{pmatrix}0.5&0\end{pmatrix}"),
        (r"\left[\begin{array}{cc}1&2\\3&4\end{array}\right]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"), (r"2\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\4\end{pmatrix}"), (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "-2"),
        (r"\begin{pmatrix}1\\2\\3\end{pmatrix}", r"\left(\begin{array}{c}1\\2\\3\end{array}\right)"), (r"\begin{pmatrix}a+b\\c\end{pmatrix}", r"\begin{pmatrix}b+a\\c\end{pmatrix}"),
        (r"A = \begin{pmatrix}1&0\\0&1\end{pmatrix}", r"\begin{pmatrix}1&0\\0&1\end{pmatrix}"), (r"\frac{1}{2}\begin{pmatrix}2&4\\6&8\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    ],
    "bases": [("1011_2", "1011_{2}"), ("1011_2", "11_{10}"), (r"2516_8", r"2516_{8}"), (r"12_{\text{five}}", "12_5"), ("A5_{16}", "A5_{16}"), ("1011_{\\text{two}}", "1011_2")],
    "ratios and times": [
        ("1:2", "2:4"), ("3:4", "3 : 4"), ("2:3:5", "4:6:10"), ("4:30 p.m.", "4:30 PM"), (r"4:30\text{ pm}", "4:30"), ("10:00 am", "10 a.m."), ("16:30", "4:30 pm"), ("20:34", "20:34:00"), ("1:2", r"\frac12"), ("3:2", "3/2"),
    ],
    "choices": [
        ("B", "(B)"), ("(B)", "B"), ("B", "B."), ("B", r"\text{(B)}"), ("B", r"\textbf{(B)}\ 42"), ("B", "b"), ("B", "B) 42"), ("B", "B: 42"), ("B", "Option B"), ("(C) 42", "C"), ("ACD", "A, C, D"), ("ACD", "CDA"), ("B", r"\mathrm{B}"),
        ("B", "(b)"), ("(A) Paris", "A"), ("B", "**B**"),
    ],
    "words": [
        ("even", "Even"), (r"\text{even}", "even"), ("infinitely many", "infinite"), ("no solution", "No solutions."), ("Yes", "yes"), (r"\text{Yes}", "Yes."), ("does not exist", "DNE"), ("undefined", "does not exist"), ("Monday", r"\text{Monday}"),
        ("the circle", "circle"), ("no real solutions", r"\emptyset"), ("True", "true"), (r"\text{Navin}", "Navin"), ("all real numbers", r"(-\infty,\infty)"), ("June 20", r"\text{June } 20"), ("north", "The wind is north"),
    ],
    "functions": [("f(x)=2x+3", "f(x) = 3+2x"), ("f(x)=0", "f(x)=0"), ("f(n)=n+1", "n+1"), ("P(x)=x^2+1", "x^2+1"), (r"g(x)=\sqrt{x}", "x^{1/2}"), ("f(x)=cx", "f(x)=c x"), (r"f(x,y)=x+y", "x+y")],
    "algebra": [
        (r"\int_0^1 x^2 dx", r"\frac13"), (r"\sum_{k=1}^{3} k", "6"), (r"\int x dx", r"\int x\, dx"), (r"\sum_{k=1}^n k", r"\frac{n(n+1)}{2}"), (r"\prod_{k=1}^4 k", "24"), (r"\lim_{x\to 0}\frac{\sin x}{x}", "1"),
        (r"\frac{d}{dx}[x^2]", "2x"), (r"\int_0^\pi \sin x dx", "2"),
    ],
    "modular": [(r"3 \pmod{7}", r"x \equiv 3 \pmod 7"), (r"10 \pmod 7", r"3 \pmod 7")],
}  # fmt: skip

DIFFERENT = {
    "integers": [
        ("5", "6"), ("5", "-5"), ("1000", "100"), ("12", "1,2"), ("2^{-99}", "2^{-98}"), (r"\frac{1}{2004!}", r"\frac{1}{2006!}"), ("100!", "101!"), ("2^{1000}", "2^{1000}+1"), ("12345678901234567890", "12345678901234567891"),
        ("0", "10^{-30}"), ("1", "1 or 2"), ("4", "4 or 5"), ("4", "4, 5"), ("5", ""), ("5", "x"), ("10", "1 0 1"), ("0", r"2^{-200}"), ("1", "0.999999999999999"), ("42", "4 2"), ("3", "3x"), ("5", "not 5"), ("0", r"e^{-500}"),
    ],
    "rounding": [
        ("1/3", "0.33"), ("1/3", "0.333333"), (r"\pi", "3.14"), (r"\pi", "3.14159"), (r"\sqrt2", "1.414"), ("2/3", "0.67"), ("0.33", "1/3"), ("3.14159", r"\pi"), ("22/7", r"\pi"), ("1.5", "1.50001"), ("0.1", "0.10000001"),
        (r"e", "2.718"), (r"\frac{1}{7}", "0.142857"), ("100", "99.99"), ("1000000", "1000001"), (r"40\pi", "125.66"), ("5", "5.0001"), ("x/3", "0.333x"), (r"e^{\pi\sqrt{163}}", "262537412640768744"), (r"\frac{355}{113}", r"\pi"),
    ],
    "percent": [("0.5", "50"), ("50", "0.5"), ("50%", "5"), ("50%", "0.05"), ("50%", "0.5%"), ("5", "500"), (r"\frac{x}{100}", "100x"), ("25%", "0.025"), ("x", "100x"), ("1/2", "50")],
    "units": [
        ("10 cm", "10 m"), ("10 cm", "10 cm^2"), ("$5", "€5"), ("5 dollars", "5 cents"), ("10 apples", "10 oranges"), ("5 kg", "5 g"), ("5 hours", "5 minutes"), ("90°", "90 rad"), ("5 m/s", "5 m"), ("3 m", "3 s"), ("10 cm", "100 cm"), ("$5.50", "$5.05"),
        ("1.5 million", "1.5"), ("20 km/h", "20 m/s"), (r"90^\circ", r"\pi"),
    ],
    "expressions": [
        ("x+1", "x-1"), ("x^2", "x^3"), ("x", "X"), ("a", "b"), ("ab", "a+b"), ("x^2+2x+1", "x^2+2x"), (r"\sqrt{x^2}", "x"), ("|x|", "x"), (r"\sin x", r"\cos x"), (r"\sin^2 x", r"\sin x^2"), ("2x", "x^2"), (r"\frac{1}{x}", "x"), ("x^2-y^2", "(x-y)^2"), ("n!", "(n+1)!"),
        (r"\ln x", r"\log_2 x"), ("m_1", "m_2"), ("e^x", "e^{-x}"), (r"\pi", "p"), ("x^{1000}", "x^{1000}+1"), ("10^{60}", r"10^{60}+\sqrt2"), ("R", "r"), (r"\tan x", r"\cot x"), ("2n+1", "2n-1"), ("i", "-i"), ("2+3i", "2-3i"), ("3i", "3"),
    ],
    "equations": [
        ("x=5", "y=5"), ("x=5", "x=6"), ("x^2=4", "4"), ("x+y=1", "1"), ("a^2+b=0", "0"), ("x+y=1", "x-y=1"), ("x^2+y^2=1", "x^2+y^2=2"), ("x^2+y^2=1", "x^2-y^2=1"), ("y=2x", "y=3x"), ("2x+z=1", "1"), ("x^2=4", "x=2"), ("x(x-1)=0", "x=1"), ("y=x^2", "x=y^2"),
        ("y=2x+1", "2x"), ("x=2", "x^2=4"), ("y = x", "0"), ("x^3=8", "x^2=4"), ("x^2+y^2=1", "1"),
    ],
    "lists": [
        ("1,2,3", "1,2"), ("1,2", "1,2,3"), ("1,2", "1"), ("1", "1,2"), (r"\pm 2", "2"), ("2", r"\pm 2"), ("(1,2,3)", "(1,2)"), ("x=1,y=2", "x=2,y=1"), ("1, 2, \\ldots, n", "1, 3, \\ldots, 2n-1"), (r"1\pm\sqrt2", r"1+\sqrt2"), ("1,2", "1,3"), ("{1,2,3}", "{1,2}"),
        ("(1,2),(3,4)", "(1,2)"), ("(1,2),(3,4)", "(2,1),(4,3)"), ("a=1,b=2", "2,1"), (r"\pm 1", r"\pm 2"), ("x=1,y=2", "(2,1)"), ("1,2,3,4", "1,2,3,5"),
    ],
    "tuples and intervals": [
        ("(1,2)", "(2,1)"), ("[1,2]", "(1,2)"), ("[1,2)", "(1,2]"), ("(1,2)", "(1,3)"), ("x>3", r"x\ge 3"), ("x>3", "x<3"), (r"(-\infty,3)", r"(-\infty,3]"), ("(1,2)", r"\{1,2\}"), ("[0,1)", "[0,1]"), (r"(1,\infty)", r"(1,2)"), ("1<x<2", "1<x<3"),
        (r"(0,1)\cup(2,3)", "(0,1)"), (r"(0,1)\cup(2,3)", "(0,3)"), (r"[1,2]\cup[3,4]", "[1,4]"), (r"x\ne 3", "x=3"), ("(1,2,3)", "(1,3,2)"), ("(0,0)", "0"), (r"x<1", r"y<1"), (r"\mathbb{R}", r"(0,\infty)"), (r"[2,5)", "2,5"), ("(3,1)", "1,3"),
        (r"(-\infty,1)\cup(2,\infty)", "(1,2)"), ("x<3", "3"), ("2x<6", "x<6"), (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"), (r"\begin{pmatrix}1\\2\end{pmatrix}", "(2,1)"), (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "1,2,3,4"), ("(-1,1)", r"|x|\le 1"), (r"a < b", r"a \le b"),
    ],
    "bases": [("1011_2", "1011_3"), ("1011_2", "1011"), ("1011_2", "1010_2"), ("12_5", "12_{6}"), ("10_2", "10_{10}")],
    "ratios and times": [("1:2", "2:1"), ("1:2", "1:3"), ("2:3:5", "2:3"), ("4:30 p.m.", "4:30 a.m."), ("12:00", "1:00"), ("4:30", "4:03"), ("1:2", "12"), ("3:30", "1:10"), ("16:30", "4:30")],
    "choices": [("B", "C"), ("B", "(A)"), ("(B)", "A"), ("ACD", "AC"), ("B", "A or B"), ("B", "A, B"), ("(A) Cecile", "C"), ("B", "not B")],
    "words": [("even", "odd"), ("yes", "no"), ("no solution", "0"), ("infinitely many", "no solution"), ("true", "false"), ("undefined", "0"), ("even", "not even"), ("Monday", "Tuesday"), ("increasing", "decreasing"), ("no solution", "does not exist"), ("north", "not north"),
              ("5", "no solution"), ("infinitely many", "5"), ("Yes", "Y")],
    "hedges and noise": [("4", "4 or 5"), ("4", "either 4 or 5"), ("7", "7 8"), ("7", "7?8"), ("x", "x or y"), ("5", "5 = 6"), ("5", "5, maybe 6"), ("2", "2^{2}"), ("10", "10^{10}"), ("(A)", "(A) or (B)"), ("3", "3\\cdot"), ("12", "1 2")],
    "algebra": [(r"\int_0^1 x^2 dx", r"\frac12"), (r"\sum_{k=1}^n k", r"\frac{n(n-1)}{2}"), (r"\int x dx", r"\int y dy")],
}  # fmt: skip
