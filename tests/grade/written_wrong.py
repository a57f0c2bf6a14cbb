"""Wrong answers that a lenient grader may take for right: (gold, answer), by hand."""

WRONG = [
    # intervals/unions
    (r"(-\infty,0]\cup[2,\infty)", r"(-\infty,0)\cup[2,\infty)"),
    (r"(-\infty,3)\cup(3,\infty)", r"x \ne 3"), ("[1,2]", "1,2"), ("[1,2]", r"1 \le x \le 2"),
    (r"x \in [-2,7]", r"-2 \le x \le 7"), ("[2,3]", "[2, 3)"),
    # inequalities
    ("x > 3", r"x \ge 3"), (r"s^2 \le 8r^2", r"s^2 \ge 8r^2"), ("x>3", "x>4"), ("x>3", "y>3"),
    (r"n \ge 5", "5"), ("5", r"n \ge 5"), ("5", r"x \neq 5"),
    # sets
    (r"\{1,2,3\}", "(1,2,3)"), (r"\{1\pm\sqrt{5},-2\}", r"1+\sqrt5,-2"), (r"\emptyset", "0"),
    ("0", r"\emptyset"),
    # plus minus
    (r"\pm 3", "3"), (r"1 \pm \sqrt{19}", r"1+\sqrt{19}"), ("5", r"\pm 5"),
    # mixed numbers
    (r"3\frac{1}{2}", r"\frac32"), (r"2\frac12", r"2\cdot\frac12"),
    # tuples
    ("(2,3),(4,5)", "(3,2),(4,5)"), ("(2,3),(4,5)", "(2,3)"),
    # matrices
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
     r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}"),
    (r"\begin{pmatrix} 2 & 0 \\ 0 & 2 \end{pmatrix}", "2I"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}^T"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"\begin{pmatrix} 4 \\ -3 \end{pmatrix}", r"4\mathbf{i}-3\mathbf{j}"),
    # logs/roots
    (r"\ln 2", r"\log 2"), (r"\log_2 3", r"\log_3 2"), (r"\ln|x|+C", r"\ln|x|"),
    (r"\sqrt{12}", r"3\sqrt2"), (r"\sqrt{x^2}", "x"), ("2^{4181}", "2^{4180}"),
    # bases
    ("1011_2", "11"), ("1011_2", "1011_3"), ("1011_2", "1101_2"), ("11", "1011_2"),
    # times, dates
    ("3:45", "3:54"), (r"8\!:\!34 \text{ p.m.}", "8:34"),
    (r"8\!:\!34 \text{ p.m.}", r"8:34\text{ a.m.}"), ("3:45", r"3\text{ hours }45\text{ minutes}"),
    (r"\text{October 30}", r"\text{Oct. 30}"), (r"\text{October 30}", "30 October"),
    (r"\text{October 30}", r"\text{October 31}"), (r"\text{Friday}", r"\text{Monday}"),
    ("10:00 AM", r"10\text{ AM}"),
    # percent/fraction
    (r"\frac13", r"33.3\%"), ("50", "0.5"), ("100", "1"),
    # ratio
    ("3:4", "4:3"), ("5:6", "0.8333"), ("1:2:3", "1:2"),
    # scientific
    ("4.5e33", r"4.5 \times 10^{32}"), ("3.83e35", r"3.8\times 10^{35}"),
    # choices
    ("A", "B"), ("A", "a"), (r"\text{A,B,C,D}", "ABCD"), (r"\text{CBAD}", "C, B, A, D"),
    ("12", "(D) 12"), ("12", r"\textbf{(D) }12"), ("C", "c"),
    # words
    (r"\text{infinitely many}", r"\infty"), (r"\text{infinite}", r"\infty"),
    (r"\text{ellipse}", "circle"), (r"\text{even}", "odd"), ("Yes", "Yes, it is"),
    (r"\text{Yes}", "True"), ("true", "T"), (r"\text{undefined}", r"\infty"), ("0", "none"),
    # expressions
    ("2x", "2X"), ("xy", "x+y"), ("x^2", "x^3"), ("x", "y"), ("C(10,3)", "120"),
    # equations
    ("y = 2x + 3", "y=2x-3"), ("2x - y + 2z - 18 = 0", "2x-y+2z+18=0"), ("x^2+y^2=1", "x^2-y^2=1"),
    ("5", "5=x"), ("x+2=7", "5"),
    # unsimplified / layout
    ("7", "7!"), ("7", r"\sim 7"), ("7", r"7 \text{ or } 8"), ("7", "between 6 and 8"),
    ("1000", "1.000"), ("1000", "10,00"), ("3,5", "3.5"), ("0.5", "0,5"), ("-7", "7"),
    ("-7", "(7)"), ("-7", r"\minus 7"),
    # adversarial FPs around the new rules
    ("3,4", "4"), ("[0,1]", "0,1"), ("12", "12 n"), ("2 s", "2"), ("3", "3i"), ("3i", "3"),
    ("x", "x m"), ("-1", "i"), ("i", "1"), ("e^{i}", "e"), ("a+bi", "a-bi"), ("3+4i", "5"),
    (r"\bar{z}", "z"), ("2i+3j", "2i-3j"), ("f(2)", r"f\cdot 2"), ("f(a+b)", "f(a)+f(b)"),
    ("f'(x)", "f(x)"), ("f^{-1}(2)", "2"), ("f(g(x))", "g(f(x))"), ("f(x)=x^2", "g(x)=x^2"),
    ("a_n = 2n-1", "a_n=2n+1"), ("a_n=2n-1", "b_n=2n-1"), ("AB = 5", "BC = 5"),
    ("5 feet 6 inches", "5 feet 7 inches"), ("30", "0.3 m"), ("60 mph", r"60\text{ km/h}"),
    ("4 m^2", "4 m"), ("5%", r"500\%"), ("5%", "50"),
    # numbers
    ("1,234", "1.234"), ("12,34", "12.34"), (r"\frac13", "0.333..."), (r"\frac13", "0.3333"),
    (r"\frac13", "33.33%"), ("0.333", r"\frac13"), (r"\frac{22}{7}", r"\pi"), (r"\pi", "3.14159"),
    (r"\pi", "22/7"), (r"\sqrt{2}", "1.414"), ("7^{7^7}", "7^{49}"), ("5 mod 3", "2"),
    # prose-like
    ("5", "No. 5"), ("5", "5?"), ("5", "5 (or 6)"), ("5", "Yes, 5"), ("5", r"\text{at least } 5"),
    ("5", "more than 5"), ("5", "less than 5"), ("5", "not 5"), ("5", r"\neq 5"), ("5", ">5"),
    ("5", r"\ge 5"), ("5", "x>5"), ("5", "n=5, m=6"), ("5", "[5, 5]"), ("5", "5 and 6"),
    ("5", "5; 6"), ("5", r"5\\6"), ("5", r"5 \to 6"), ("5", r"5+\epsilon"), ("Monday", "Mon"),
    ("Alice", "Alice and Bob"), ("isosceles", "isosceles triangle"), ("true", "yes"),
    ("convergent", "converges"), ("increasing", "decreasing"), ("AB", "BA"), (r"\text{AB}", "BA"),
    ("ABCD", "DCBA"),
    # FPs where symbols vanish
    (r"2\pi r", r"2\pi"), (r"2\pi r", r"2\pi R"), ("5x", "5"), ("5", "5y"), ("kx", "k"),
    ("n", "N"), ("a_1", "a1"), ("x_1", "x_2"), ("x_{12}", "x_1 2"), ("x'", "x"), (r"\alpha", "a"),
    (r"\alpha", r"\beta"), (r"\hat{x}", "x"),
    # Minerva and OlympiadBench golds
    (r"2 \cos (\pi t+\pi / 3)", r"2\cos(\pi t - \pi/3)"),
    (r"y^{\prime}+r y-r x(t)=0", "y + ry - rx(t)=0"),
    (r"\frac{e^{2 i t}}{(2+2 i)}", r"\frac{1+i}{4}e^{2it}"),
    ("x / 2-1 / 4+c e^{-2 x}", r"\frac{x}{2} - \frac14 + Ce^{-2x}"),
    (r"$2021 \cdot 505 \cdot 337$", "343951085"), ("$f(x)=x$,$f(x)=2-x$", "f(x)=x"),
    (r"$-\frac{8}{3}$", "-2.667"),
    # MATH golds
    (r"\begin{pmatrix} 0 & 0 \\ 0 & 0 \end{pmatrix}", r"\mathbf{0}"), ("3R^2", "3r^2"),
    ("6m", "6"), ("2B", "2b"), (r"2\text{ miles}", "3.2 km"), ("19:60", "20:00"),
    # leniency hunted as a policy would
    ("7", r"7 \approx 8"), ("3", r"\pi \approx 3"), ("7", "7 = 6"), ("7", "7, but not 8"),
    ("7", "7 (or 8)"), ("7", "7 | 8"), ("7", "7/8"), ("7", "7 8"), ("7", "7--8"), ("7", "7-8"),
    ("7", "7..8"), ("7", "[7,8]"), ("7", r"7\text{ or so}"), ("7", r"7\text{ and }8"),
    ("7", r"7\quad 8"), ("7", r"7 \newline 8"), ("7", r"\{7,8\}"), ("7", r"7\ldots"),
    ("7", r"\text{7 or 8}"), ("A", r"A \text{ or } B"), ("A", "(A) or (B)"), ("A", "(A), (B)"),
    ("A", "(A) (B)"), ("A", "A) not B"), ("A", "AB"), ("A", "A B"), ("12", "12 or 12.5"),
    ("x=1, y=2", "x=1, y=2, x=2, y=1"), ("(1,2)", "(1,2),(2,1)"), (r"\pm 1", "1"), ("1", r"\pm 1"),
    ("5", r"\text{The answer is not } 5"), ("5", "The answer is 5 or 6"), ("5", "not exactly 5"),
    ("5", r"5 \pm 1"), ("5", "5e"), ("5", "5i^2"), ("no solution", "5"), ("5", "no solution"),
    (r"\emptyset", r"\{0\}"), (r"\emptyset", r"\{\emptyset\}"), ("0", "no"), ("2", "two or three"),
    ("2", "two hundred"), ("x>3", "x>3, x<5"), ("x>3", r"x>3 \text{ or } x<5"),
    (r"(1,\infty)", r"\{x \mid x \ge 1\}"), ("5 m", "5 s"), (r"5 \text{ m}", r"5 \text{ m}^2"),
    ("5", "5 m or 6 m"),
    # units and percents inside an expression, words that change the number before them
    ("6", "3 plus 2"), ("6", r"3\text{ minus }2"), ("6", "3 apples 2"), ("6", r"3\text{ not }2"),
    (r"5\text{ m}", r"2\text{ km} + 3\text{ m}"), ("5", r"2\text{ km} + 3\text{ m}"),
    (r"5\text{ m}", r"2\text{ s} + 3\text{ m}"), (r"2\text{ m/s}", r"4\text{ s}/2\text{ m}"),
    (r"2\text{ m}", r"\frac{4\text{ s}}{2}"), (r"2\text{ m}", r"2\sqrt{1\text{ s}}"),
    ("8", r"2^{3\text{ m}}"), ("0.05", r"5+0\%"), ("15", r"10+5\%"), (r"15\%", r"10+5\%"),
    ("5000", r"100 \cdot 50\%"), ("3", "3 squared"), ("3", "3 cubed"), ("3", "3 halves"),
    ("3", "3 thirds"), ("3", "3 quarters"), ("3", "3 tenths"), ("3", "3 hundredths"),
    ("3", "3 factorial"), ("3", "3 doubled"), ("3", "3 below zero"), ("3", "3 unless"),
    ("3", "3rd power"), ("7", r"7\text{ half}"), ("7", r"7\text{k}"), ("7", r"7\text{x}"),
    ("7", r"7\text{pi}"), ("7", r"7\text{ sqrt}"), ("7", r"7\text{!}"), ("7", r"7\text{ - 1}"),
    ("7", r"7\text{ + 1}"), ("7", r"7\text{^2}"), ("7", r"7\mathbf{i}"),
    ("7", r"7\text{ (but 8 also works)}"), ("4abcd", "4"), ("4", "4abcd"),
    # infinities, sets of sets, curves, variables
    (r"\infty", r"-\infty+\infty"), (r"\{1,2\}", r"\{1\},\{2\}"), ("xy=1", "1"), ("x+y=5", "5"),
    ("f(x)=x^2", "f(y)=x^2"),
    # nearly equal values, other names
    (r"\sin\pi", "10^{-20}"), ("10^{20}", r"\sqrt{10^{40}+1}"), (r"\sin 1", r"\sin(1+10^{-16})"),
    (r"\sqrt{2}i", "1.41421356237309504i"), (r"x\approx 2.3", r"y\approx 2.3"),
    ("2", r"\sqrt[3]{-8}"), ("-2", r"\sqrt[4]{-16}"),
    # a percent is no amount of something
    (r"5\%", r"\$5"), (r"\$5", r"5\%"), (r"5\text{ cm}", r"5\%"), ("3:45", r"3:45\text{a^2b^3}"),
    # digits behind a point in another base, titles
    ("1.1_2", "1.1_3"), ("1.1_2", "1.01_2"), ("Mr. Smith", "Mrs. Smith"),
]  # fmt: skip
