r"""Probes of weak spots, class by class: pairs and responses labelled by hand, in the patterns of published golds.

Each class was once a way to have a wrong answer accepted or a right one refused. `PAIRS` holds (gold, answer),
`RESPONSES` (gold, response); the lists of one class are about equally long, so that a rule cannot pass by always saying no.
"""
# ruff: noqa: E501 - rows of data

PAIRS_SAME = {
    "a capital letter in front": [
        (r"A\sin x+B\cos x", r"B\cos x+A\sin x"), (r"E\ge 3", r"3\le E"), (r"I\propto x^2", r"I \propto x^{2}"), (r"A\subset B", r"A \subset B"), (r"C=\sqrt{n}", r"\sqrt n"),
        (r"I\frac{d\omega}{dt}+2B\omega=T", r"I \frac{d\omega}{dt} + 2B\omega = T"), (r"E(X)=6", "6"), (r"A=x(500-2x)", r"A=500x-2x^2"), (r"C\ge 2\ln 2", r"C \ge \ln 4"),
        (r"B^{-1}=\begin{pmatrix}1&2\\0&1\end{pmatrix}", r"\begin{pmatrix}1&2\\0&1\end{pmatrix}"), ("A(t)=2e^{-t}", "2e^{-t}"), (r"I(0)e^{-\frac{t}{RC}}", r"I(0)e^{-t/(RC)}"), ("B=2D", "2D=B"),
        (r"C+\frac{x^2}{2}", r"\frac12x^2+C"), (r"A\cap B=\emptyset", r"A \cap B = \emptyset"), ("A+B", "B+A"), ("AB", "A B"), (r"\frac{A}{B}", "A/B"), ("C_1e^x+C_2e^{-x}", "C_2e^{-x}+C_1e^x"),
        ("A", "(A)"), ("A", "A. 42"), ("(B) 12", "B"), ("C. 1-i", "C"), ("A B D", "ABD"), ("A, C", "C and A"), ("ACD", "A、C、D"), ("D", r"\text{(D)}"), ("B", "b"), ("E", "Option E"), ("(C) x>1", "x>1"),
    ],
    "what is not smooth": [
        (r"\lfloor n/3\rfloor+1", r"1+\left\lfloor\frac{n}{3}\right\rfloor"), (r"\max(a,10)", r"\max(10,a)"), (r"n\bmod 100", r"n \bmod 100"), (r"\gcd(m,n)", r"\gcd(n,m)"), ("|x-100|", "|100-x|"),
        (r"\lceil n/2\rceil", r"\lfloor (n+1)/2\rfloor"), (r"\left\lfloor\frac{(n-1)^2}{2}\right\rfloor", r"\lfloor (n^2-2n+1)/2 \rfloor"), (r"\frac{p+q}{\gcd(p,q)}", r"\frac{q+p}{\gcd(q,p)}"),
        (r"2\lceil \frac n2\rceil", r"2\left\lceil n/2\right\rceil"), (r"mn-\lfloor m/2\rfloor", r"nm-\lfloor \frac{m}{2}\rfloor"), (r"\lfloor x\rfloor+1", r"\lfloor x+1\rfloor"), (r"\lceil x\rceil", r"-\lfloor -x\rfloor"),
        (r"\min(a,b)+\max(a,b)", "a+b"), (r"\max(x,-x)", "|x|"), (r"\operatorname{lcm}(m,n)\gcd(m,n)", "mn"), (r"|x|^2", "x^2"), (r"\sqrt{(x-7)^2}", "|x-7|"), (r"\frac{a+b+|a-b|}{2}", r"\max(a,b)"),
        (r"\lfloor\log_2 n\rfloor+1", r"1+\lfloor \log_2 n \rfloor"), (r"c(x-|x|)", r"-c(|x|-x)"), (r"\lfloor \sqrt{n-1}\rfloor", r"\left\lfloor \sqrt{n - 1} \right\rfloor"), (r"2x\lfloor x\rfloor", r"\lfloor x\rfloor\cdot 2x"),
        (r"\ln|x-40|", r"\ln|40-x|"), (r"|2x-60|", "2|x-30|"),
    ],
    "vectors, kets, arcs": [
        (r"-\frac12 u\boldsymbol e_r", r"-\frac{u}{2}\boldsymbol{e}_r"), (r"r^{-2}\boldsymbol e_r", r"\frac{1}{r^2}\boldsymbol{e}_r"), (r"-|\psi\rangle", r"-\left|\psi\right\rangle"), (r"-63^\circ 45'", r"-63^{\circ}45^{\prime}"),
        (r"\mathbf{a}+2\mathbf{b}", r"2\mathbf{b}+\mathbf{a}"), (r"-\frac{2z}{r^3}\mathbf{e}_r+\frac{1}{r^2}\mathbf{e}_z", r"\frac{1}{r^2}\mathbf{e}_z-\frac{2z}{r^3}\mathbf{e}_r"), (r"\frac{1}{\sqrt2}(|0\rangle+|1\rangle)", r"\frac{|0\rangle+|1\rangle}{\sqrt{2}}"),
        (r"\frac14\mathbf{u}_1-\frac45\mathbf{u}_3", r"\frac{1}{4} \mathbf{u}_{1} - \frac{4}{5} \mathbf{u}_{3}"), (r"x_0\cos\omega t+\frac{\dot{x}_0}{\omega}\sin\omega t", r"x_0\cos(\omega t)+\dot{x}_0\sin(\omega t)/\omega"), (r"60^\circ 42'", r"60^\circ 42^{\prime}"),
        (r"12^\circ 30'", r"12.5^\circ"), (r"10^\circ 0' 36''", r"10.01^\circ"), (r"\vec{a}\cdot\vec{b}", r"\vec{b}\cdot\vec{a}"), (r"\vec{a}\times\vec{b}", r"\vec a \times \vec b"), (r"\hat{\theta}=\frac{a}{\bar{x}}", r"\frac{a}{\bar x}"),
        (r"2\vec{a}-\vec{b}", r"-\vec b+2\vec a"), (r"3\times 4\vec{a}", r"12\vec{a}"), (r"\ddot{x}+4x=0", r"\ddot x + 4x = 0"), (r"\dot{x}=-kx", r"\dot x = -k x"), (r"a|0\rangle-b|1\rangle", r"-b|1\rangle+a|0\rangle"), (r"\frac{GM}{r^2}\hat{r}", r"GM\hat r/r^2"),
        (r"\nabla f", r"\nabla f"),
    ],
    "quantifiers and conditions": [
        (r"f(x)=0\text{ for all }x", "f(x)=0"), (r"f(x)=x \text{ for all } x\in\mathbb{R}", "f(x)=x"), (r"f(x)=0,f(x)=3x\ \forall x", "f(x)=3x, f(x)=0"), (r"f(x)=0\text{ for all }x, f(x)=2x\text{ for all }x", r"f(x)=0, f(x)=2x"),
        (r"x=1\text{ for all }n>2", r"x=1 \text{ for all } n > 2"), (r"9k\text{ for any positive integer }k", "9k"), (r"c(x^2+3)\text{ for any constant }c", "c(x^2+3)"), (r"f(x)=x\quad\forall x\in\mathbb{R}", r"f(x) = x \text{ for all } x \in \mathbb{R}"),
        (r"n\text{ if }n\text{ is even}", r"n \text{ if } n \text{ is even}"), (r"n-3\text{ if }n\text{ is odd, and }n-2\text{ if }n\text{ is even}", r"n-2\text{ if }n\text{ is even, }n-3\text{ if }n\text{ is odd}"), (r"a+b\text{ where }a>0", r"b+a\text{ where }a>0"), (r"a+b\text{ where }a>0", r"a+b\text{ where }0<a"),
        (r"f(x)=kx\text{ for any real }k", "f(x)=kx"), (r"(a,0)\text{ for any real number }a", "(a,0)"), (r"f(x)=2x \text{ for all real } x", r"f(x)=2x, \forall x \in \mathbb{R}"), (r"x=2k\pi, k\in\mathbb{Z}", r"x = 2\pi k, k \in \mathbb{Z}"), (r"x=2k\pi, k\in\mathbb{Z}", r"2k\pi"),
        (r"\frac25 n\mu(0)", r"\frac{2}{5}\mu(0)n"), ("P(0)+1", "1+P(0)"), (r"f(0)e^{-t}", r"e^{-t}f(0)"), (r"f(n)=n+1\text{ for all positive integers }n", "f(n)=n+1"), (r"2^a\text{ for all }a\ge 0", r"2^a \text{ for all } a\geq 0"),
        (r"c\text{ for all }c, 1\le c<2", r"c\text{ for all }c, 1\le c<2"),
    ],
    "powers and products": [
        (r"y=(x-a)^{5999}", r"y=-(a-x)^{5999}"), (r"y=(x-a)^{5998}", r"y=(a-x)^{5998}"), (r"(x-1)^{99}", r"-(1-x)^{99}"), ("x^{100}-1", "-(1-x^{100})"), (r"2^{1000}x", r"x\cdot 2^{1000}"),
    ],
    "derivations in the answer": [
        ("72", r"2\nabla 3=2^3\cdot 3^2=72"), (r"\frac56", r"P(\text{win})=\frac56."), ("5586", r"\text{Therefore the sum is }S=5586"), ("12", r"3\cdot 4=12"), (r"\frac{1}{2}", r"\sin 30^\circ=\frac12"), ("7", r"\text{Total}=3+4=7"),
        ("20", r"a+b=8+12=20"), ("x+1", r"f(x)=\frac{x^2-1}{x-1}=x+1"), ("6", r"|AB|=\sqrt{36}=6"), ("10", r"\binom{5}{2}=10"), (r"3\sqrt2", r"\text{distance}=\sqrt{18}=3\sqrt{2}"), ("0.5", r"P(A\cap B)=P(A)P(B)=0.5"),
    ],
    "names and notations": [
        ("-2,-2", "a=-2,b=-2"), ("16,3,1,1", "w=16,d=3,a=1,b=1"), (r"x(t)=2e^{-t}", r"2e^{-t}"), (r"\{1\}\cup[2,\infty)", r"x=1\text{ or }x\ge2"), ("12^{th}", "12"), ("12th", "12^{\\text{th}}"), ("0.63", "0,63"), ("1234.56", "1.234,56"), (r"60^\circ42'", r"60^\circ 42^{\prime}"),
        ("3^x", "3<sup>x</sup>"), ("x_1", "x<sub>1</sub>"), ("-4k^2", "(-1) 4 k^2"), ("f(x)=x+1", r"f{\left(x \right)} = x + 1"), (r"\sin x", r"\sin{\left(x \right)}"), (r"\{1\}\cup(3,\infty)", r"\{1\} \cup (3, +\infty)"), ("4^{th}", r"\text{fourth}"),
        ("2,3", r"x=2 \text{ and } y=3"), ("1,-1,0", "a=1, b=-1, c=0"),
    ],
    "notations of programs": [
        ("|x|", "Abs(x)"), (r"\sum_{k=1}^{n}k^2", "summation(k**2, (k, 1, n))"), (r"\sum_{k=1}^{10}k", "Sum(k, (k, 1, 10))"), ("105", "factorial2(7)"), ("2", "re(2-I)"), ("-1", "im(2-I)"), ("i", "(-1)**(1/2)"), (r"\log_7 x", "log(x, 7)"), (r"\sqrt{2}/2", "sqrt(2)/2"),
        ("x^2+1", "x**2 + 1"), ("2i", "2*I"), ("e^2", "E**2"), ("e^x", "exp(x)"), (r"\frac{1}{3}", "Rational(1, 3)"), ("120", "factorial(5)"), ("10", "binomial(5, 2)"), (r"\lfloor x\rfloor", "floor(x)"), (r"\lceil x\rceil", "ceiling(x)"), (r"\max(a,b)", "Max(a, b)"),
        (r"\infty", "oo"), (r"(-\infty,2)", "Interval.open(-oo, 2)"), ("[0,1)", "Interval.Ropen(0, 1)"), (r"\{1,2\}", "FiniteSet(1, 2)"), (r"\{1,2\}", "{1, 2}"), (r"\arcsin(10/13)", "np.arcsin(10/13)"), (r"\sqrt{5}", "math.sqrt(5)"), (r"\pi/4", "math.pi/4"), ("2", "conjugate(2)"),
        (r"\int_0^1x^2dx", "integrate(x**2, (x, 0, 1))"), (r"\sqrt[3]{x}", "cbrt(x)"), (r"\sqrt[4]{x}", "root(x, 4)"), ("x=2", "Eq(x, 2)"), (r"\frac12", "S(1)/2"), (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "Matrix([[1, 2], [3, 4]])"), (r"\prod_{k=1}^{4}k", "product(k, (k, 1, 4))"),
        ("[1,2]\\cup[3,4]", "Union(Interval(1, 2), Interval(3, 4))"), (r"e^{i\pi/3}", "exp(I*pi/3)"), (r"2\pi r", "2*pi*r"), ("1", "sign(5)"), ("3", "Abs(-3)"),
    ],
}  # fmt: skip

PAIRS_DIFFERENT = {
    "a capital letter in front": [
        (r"A\sin x+B\cos x", r"A\cos x-B\sin x"), (r"E\ge 3", r"E\ge 4"), (r"I\propto x^2", r"I\propto x^3"), (r"A\subset B", r"A\supset B"), (r"I\frac{d\omega}{dt}+2B\omega=T", "I"), ("A B D", "A"), (r"A\sin x", "A"), (r"C\ge 2\ln 2", r"C \ge 3\ln 2"), (r"A \cap B", r"A \cup B"),
        (r"E(X)=6", r"E(X)=7"), (r"C=\sqrt n", r"C=\sqrt m"), (r"A=x(500-2x)", r"A=x(500-3x)"), ("A(t)=2e^{-t}", "A(t)=2e^{t}"), (r"I(0)e^{-t}", r"I(0)e^{t}"), (r"B=2D, E=2C", "B=2D"), (r"A^{-1}B", r"A"), (r"A -5", "A"), (r"A\Rightarrow B", r"B\Rightarrow A"), (r"A x + B", "A"),
        (r"D\frac{\partial^2 c}{\partial x^2}", "D"), (r"D \approx 5", "D"), (r"A \to B", "A"), (r"A 2", "A 3"), (r"(A) + 1", "A"), ("A or B", "A"), ("(A), (C)", "A"), ("ACD", "AC"), ("A, A, B", "A, B"), ("A, A, B", "A, B, A"), ("B", "A"), ("A circle", "A"), ("I think", "I"), (r"A\setminus B", r"B\setminus A"), ("C. 1-i", "D"), ("(B) 12", "(C) 12"), ("C is not invertible", "C is invertible"), ("C is not invertible", "C"),
    ],
    "what is not smooth": [
        (r"\lfloor n/3\rfloor+1", r"\lfloor n/4\rfloor+1"), (r"\max(a,10)", "10"), (r"n\bmod 100", "n"), (r"\gcd(m,n)", "1"), ("|x-100|", "100-x"), (r"\lfloor n/3\rfloor+1", r"\lfloor n/3\rfloor+2"), (r"\lfloor (n+1)/2\rfloor", r"\lfloor n/2\rfloor"), (r"\lfloor (n+1)/100\rfloor", r"\lfloor n/100\rfloor"),
        (r"\lceil n/2\rceil", r"\lceil n/3\rceil"), (r"\max(a,100)", r"\max(a,101)"), (r"\min(a,5)", "a"), (r"\lfloor x\rfloor", "x"), (r"\lfloor x\rfloor", "0"), (r"\lfloor n/100 \rfloor", r"\lfloor n/101\rfloor"), (r"|x-5|<3", "5-x<3"), (r"y=|x-50|", "y=50-x"), (r"\operatorname{lcm}(m,n)", "mn"), (r"\operatorname{sgn}(x-3)", "-1"),
        (r"\left\lfloor\frac{(n-1)^2}{2}\right\rfloor", r"\left\lfloor\frac{(n-1)^2}{3}\right\rfloor"), (r"\frac{p+q}{\gcd(p,q)}", "p+q"), (r"2\lceil n/2\rceil", "2"), (r"mn-\lfloor m/2\rfloor", "mn"), (r"\lfloor\log_2 n\rfloor+1", r"\lfloor \log_3 n\rfloor+1"), (r"|x|", "x"), (r"\sqrt{(x-7)^2}", "7-x"), (r"(-1)^{\lfloor n/2\rfloor}", "1"), (r"n\bmod 10", r"n\bmod 11"), (r"\ln|x-40|", r"\ln(40-x)"),
        (r"|2x-60|", "60-2x"), (r"\lfloor \sqrt{n}\rfloor", "1"), (r"\max(2q,q+10)", "q+10"),
    ],
    "vectors, kets, arcs": [
        (r"-\frac12 u\boldsymbol e_r", r"\frac12 u\boldsymbol e_r"), (r"r^{-2}\boldsymbol e_r", r"r^2\boldsymbol e_r"), (r"-|\psi\rangle", r"|\psi\rangle"), (r"-63^\circ 45'", r"63^\circ 45'"), (r"63^\circ 45'", r"63^\circ 46'"), (r"\mathbf{a}+2\mathbf{b}", r"\mathbf{a}-2\mathbf{b}"), (r"\frac{1}{\sqrt2}(|0\rangle+|1\rangle)", r"\frac{1}{\sqrt2}(|0\rangle-|1\rangle)"),
        (r"|0\rangle|1\rangle", r"|1\rangle|0\rangle"), (r"|01\rangle", r"|10\rangle"), (r"\dot{x}", "x"), (r"\ddot{x}+4x=0", r"\dot{x}+4x=0"), (r"\hat{\theta}", r"\theta"), (r"\vec{a}\cdot\vec{b}", r"\vec{a}\times\vec{b}"), (r"\mathbf{F}\times\mathbf{r}", r"\mathbf{F}\cdot\mathbf{r}"), (r"179^\circ59'56''", r"179^\circ59'57''"), (r"\frac{GM}{r^2}\hat r", r"-\frac{GM}{r^2}\hat r"),
        (r"a|0\rangle-b|1\rangle", r"a|0\rangle+b|1\rangle"), (r"\mathbf{u}_1\perp\mathbf{u}_2", r"\mathbf{u}_1\perp\mathbf{u}_3"), (r"\vec{a}\times\vec{b}", r"\vec{b}\times\vec{a}"), (r"\langle 0|1\rangle", r"|1\rangle\langle 0|"), (r"The radius is $-2\mathbf{v}$", r"The radius is $2\mathbf{v}$"), (r"x=0 \text{ is sufficient for } \vec a\perp\vec b", r"x=1 \text{ is sufficient for } \vec a\perp\vec b"),
        (r"\max at x=63/64", r"\max at x=-63/64"), (r"\min at n\pi", r"\max at n\pi"), (r"n \geq 3 works \{a_n\}", r"n \leq 3 works \{a_n\}"), (r"k\nmid m", r"k\mid m"),
    ],
    "quantifiers and conditions": [
        (r"f(x)=0\text{ for all }x, f(x)=2x", r"f(x)=0\text{ for all }x"), (r"x=1\text{ for all }n>2", r"x=1\text{ for all }n>5"), (r"n\text{ if }n\text{ is even}", "n"), (r"\frac25 n\mu(0)", "0"), ("P(0)+1", "1"), (r"c\text{ for all }c, 1\le c<2", r"c\text{ for all }c, 1\le c<3"), (r"\forall x, 1\le c<2", r"\forall x, 1\le c<3"),
        (r"n-3\text{ if }n\text{ is odd, and }n-2\text{ if }n\text{ is even}", r"n-3\text{ if }n\text{ is even, and }n-2\text{ if }n\text{ is odd}"), (r"a+b\text{ where }a>0", r"a+b\text{ where }a<0"), (r"a+b\text{ where }a>0", r"a+b\text{ where }a>1"), (r"f(x)=x\text{ for all }x", r"f(x)=2x\text{ for all }x"), (r"2^a\text{ for all }a\ge 0", r"2^a\text{ for all }a\ge 1"),
        (r"f(x)=1\text{ for all }x\in\mathbb{R}", r"f(x)=1\text{ for all }x\in\mathbb{N}"), (r"x=2k\pi, k\in\mathbb{Z}", r"x=2k\pi, k\in\mathbb{N}"), (r"\forall n, P(n)", r"\exists n, P(n)"), (r"f(x)=0\text{ for some }x", r"f(x)=0\text{ for all }x"), (r"2\text{ if }n=2k,\text{ and }1\text{ otherwise}", "2"), (r"2\text{ if }n=2k,\text{ and }1\text{ otherwise}", r"1\text{ if }n=2k,\text{ and }2\text{ otherwise}"),
        ("f(0)", "0"), ("2f(0)", "0"), ("g(1)", "g"), (r"P(0)", "0"), (r"x\text{ if }x>0, -x\text{ if }x<0", r"x\text{ if }x>0"), (r"\text{even, if }n>3", r"\text{even, if }n<3"), (r"a^2\text{ such that }a\ne 0", r"a^2\text{ such that }a\ne 1"), (r"k=1\text{ when }n=4", r"k=1\text{ when }n=5"),
    ],
    "powers and products": [
        (r"y=(x-a)^{5999}", r"y=(a-x)^{5999}"), (r"(x-1)^{99}", r"(1-x)^{99}"), (r"y=x^{2001}", r"y=-x^{2001}"), (r"y=(x-a)^{5999}", r"y=(x-a)^{5998}"), (r"y=(x+1)^{400}", r"y=(x+1)^{401}"), ("x+10^{-60}", "x"),
    ],
    "derivations in the answer": [
        ("72", r"2\nabla 3=2^3\cdot 3^2=73"), (r"\frac56", r"P(\text{win})=\frac16."), ("5586", r"\text{Therefore the sum is }S=5587"), ("12", r"3\cdot 4=12+1"), ("8", r"a+b=8+12=20"), ("3", r"\text{Total}=3+4=7"), ("x+1", r"f(x)=\frac{x^2-1}{x-1}=x-1"), ("36", r"|AB|=\sqrt{36}=6"), ("1", "x+y=1"), ("0", "a^2+b=0"), ("4", r"x^2=4"), ("5", r"2x=5"),
    ],
    "names and notations": [
        ("-2,-2", "a=-2,b=2"), ("16,3,1,1", "w=16,d=3,a=1,b=2"), ("16,3,1,1", "w=3,d=16,a=1,b=1"), (r"x(t)=2e^{-t}", r"2e^{t}"), (r"\{1\}\cup[2,\infty)", r"x=1\text{ or }x>2"), ("12^{th}", "13^{th}"), ("0.63", "0,64"), ("63", "0,63"), ("1234.56", "1.234,57"), ("3^x", "3x"), ("-4k^2", "4k^2"), ("f(x)=x+1", r"f{\left(x \right)} = x - 1"), ("x^{12}", "12^{th}"), ("4^{th}", r"\text{fifth}"),
        ("2,3", r"x=3 \text{ and } y=2"), ("-2,-2", "-2,2"), ("x_1=1,x_2=2", "x_1=2,x_2=1"), ("a=1,b=1", "a=1,b=2"),
    ],
    "notations of programs": [
        ("|x|", "Abs(x)+1"), (r"\sum_{k=1}^{n}k^2", "summation(k**3, (k, 1, n))"), ("105", "factorial2(8)"), ("2", "re(3-I)"), ("1", "im(2-I)"), ("-i", "(-1)**(1/2)"), (r"\log_7 x", "log(x, 8)"), (r"\log_7 x", "log(7, x)"), ("x^2+1", "x**2 - 1"), ("2i", "2*I*I"), ("e^2", "E**3"), (r"\frac{1}{3}", "Rational(1, 4)"), ("120", "factorial(6)"), ("10", "binomial(5, 1)"),
        (r"\lfloor x\rfloor", "ceiling(x)"), (r"\max(a,b)", "Min(a, b)"), (r"\infty", "-oo"), (r"(-\infty,2)", "Interval(-oo, 2)"), ("[0,1)", "Interval.Lopen(0, 1)"), (r"\{1,2\}", "FiniteSet(1, 3)"), (r"\arcsin(10/13)", "np.arccos(10/13)"), (r"\int_0^1x^2dx", "integrate(x**2, (x, 0, 2))"), (r"\sqrt[4]{x}", "root(x, 3)"), ("x=2", "Eq(x, 3)"), ("x=2", "Ne(x, 2)"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "Matrix([[1, 2], [4, 3]])"), ("[1,2]\\cup[3,4]", "Union(Interval(1, 2), Interval(3, 5))"), (r"e^{i\pi/3}", "exp(-I*pi/3)"), ("3", "__import__('os')"), ("1", "sign(-5)"),
    ],
}  # fmt: skip

RESPONSES_RIGHT = {
    "letters and numbers out of prose": [
        ("A", "【答案】: A"), ("A", "【答案】A"), ("C", "A项错误，B项错误。故选：C"), ("A", "综上所述，故选A。"), ("A", "所以选A。"), ("A", "答案：A"), ("B", "因此正确选项是B。"), ("A", "#### A"), ("A", "Therefore, option A is correct."), ("D", "so option D is the correct choice."), ("C", r"The value is \boxed{12}. Final answer: (C)"), ("A", "The answer is (A)."), ("A", "A"), ("A", "(A) 12"),
        ("A", "Thus the correct answer is A."), ("ACD", "故选：ACD"), ("ACD", "The correct options are A, C and D."), ("BD", "【答案】BD"), ("AC", r"\boxed{A, C}"), ("A", "I would choose A."), ("A", "Looking at the options, B and C fail. The answer must be A"), ("A", "**A**"), ("A", r"\boxed{\text{A}}"), ("A", r"\boxed{A. 3}"), ("B", "Option A is incorrect. Option B is correct."),
        ("7", "3+4=7"), ("7", "We add them. The total is 7."), ("2", "There are 2 items sold for less than 5 units."), ("42", "Adding, we get 42"), ("300", "The total is 300 units."), ("A", "Answer: A. The others fail."), ("A", "A) because the sum is even"), ("E", "The answer is E"), ("I", "The answer is I"), ("C", "So the answer is\n\nC"), ("A", "选A"), ("A", "答案选 A"), ("A", "【解答】略。\n故选：A．"), ("D", "故答案为：D"), ("A", "The best answer is: A"), ("AB", "故选AB"), ("A C", r"\boxed{A C}"), ("ABD", "The answer is A B D."),
    ],
    "values in responses": [
        ("72", r"\boxed{2\nabla 3=2^3\cdot 3^2=72}"), (r"\frac56", r"\boxed{P(\text{win})=\frac56.}"), ("5586", r"\boxed{\text{Therefore the sum is }=5586}"), ("12", r"The answer is $3\cdot4=12$."), ("5,7", "(a) \\boxed{5}\n\n(b) \\boxed{7}"), ("3", r"**Lösung:** $x=3$"), ("42", "**Ответ:** 42"), ("42", "**Resposta final:** 42"), ("42", "Réponse : 42"), ("42", "## Answer\n42"), ("42", "答：42"),
        ("18", "The answer is 18 dollars per day."), ("0.63", "Die Antwort ist 0,63."), ("2", "So the answer is 2 because 2 items sold less than 5 units."),
    ],
}  # fmt: skip

RESPONSES_WRONG = {
    "letters and numbers out of prose": [
        ("C", "【答案】: A"), ("C", "选项C错误。【答案】A"), ("A", "(A), (C), and (E)"), ("C", "The correct options are (A), (C), and (E)."), ("E", "I cannot decide which of A to E is right."), ("A", "I'm sorry, but I can't determine which of the options A to E holds."), ("300", "I'm sorry, I cannot solve this: it needs 300 units of something."), ("7", "First, 3+4=7. Then"), ("7", "First, 3+4=7. Then we need to"), ("B", "We look at B. Then"),
        ("A", "A or B"), ("A", "It could be A, B or C."), ("B", "故选：ABD"), ("A", "故选：AB"), ("A", "故选：D"), ("C", "Option C is incorrect. The answer is D."), ("B", "The answer is not B."), ("A", "A rectangle has 4 sides"), ("A", "A sum of numbers is 12"), ("I", "I do not know"), ("C", r"\boxed{A}"), ("C", r"The value is \boxed{12}."), ("B", "Answer: A. Not B."), ("E", "Euler showed this. E is a constant."), ("A", "Let A be the area. The area is 12."), ("300", "As an AI, I am unable to answer questions about 300 units."),
        ("5", "I cannot answer this, because only 5 values are given."), ("3", "Let me think. We have 3"  " apples, and then we need to compute the"), ("12", "The problem cannot be solved with the 12 values given."), ("C", "无法确定选项A到C"), ("ACD", "故选：AC"), ("ACD", "A"), ("D", "The options are A, B, C, D."), ("B", "B and D are both correct."), ("B", "I refuse to choose between A and B."), ("4", "Sorry, I do not know the answer to question 4."), ("7", "Step 1: 3+4=7.\nStep 2: Next,"), ("A", "Is it A? I am not sure."), ("9", "So far we have 9, and now we continue by"),
    ],
    "values in responses": [
        ("72", r"\boxed{2\nabla 3=2^3\cdot 3^2=73}"), ("5", "(a) \\boxed{5}\n\n(b) \\boxed{7}"), ("42", "**Ответ:** 43"), ("63", "Die Antwort ist 0,63."), ("5", "So the answer is 2 because 2 items sold less than 5 units."), ("12", r"The answer is $3\cdot4=13$."),
    ],
}  # fmt: skip
