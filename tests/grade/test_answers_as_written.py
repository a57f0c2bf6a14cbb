"""Golds as textbooks print them, answers as models write them: (gold, answer), by hand."""

import pytest
from made_pairs import made_pairs

RIGHT = [
    # intervals/unions
    ("[0,3)", "[0, 3["), ("(0,3)", "]0,3["), ("[0,3)", r"\left[0,3\right)"),
    (r"(-\infty,0]\cup[2,\infty)", r"(-\infty, 0] \cup [2, +\infty)"),
    (r"(-\infty,0]\cup[2,\infty)", r"[2,\infty)\cup(-\infty,0]"),
    (r"(-\infty,0]\cup[2,\infty)", r"(-\infty,0], [2,\infty)"),
    (r"(-\infty,0]\cup[2,\infty)", r"(-\infty,0] \text{ or } [2,\infty)"),
    (r"(-\infty,\infty)", r"\mathbb{R}"), (r"\mathbb{R}", r"(-\infty,\infty)"),
    (r"\mathbb{R}", r"\text{all real numbers}"), (r"(-\infty,\infty)", r"\text{all real numbers}"),
    (r"(-\infty,3)\cup(3,\infty)", r"\mathbb{R}\setminus\{3\}"),
    ("(0.5,0.6)", r"(\frac12,\frac35)"),
    (r"(-\infty,1)\cup(1,\infty)", r"(-\infty, 1) U (1, \infty)"), ("[-2,7]", r"x \in [-2, 7]"),
    (r"x \in [-2,7]", "[-2,7]"), (r"(-\infty, 0) \cup\{1\}", r"\{1\}\cup(-\infty,0)"),
    (r"\left(\frac{3}{5},\frac{8}{3}\right]", "(0.6, 8/3]"),
    # inequalities
    ("x > 3", "x>3"), ("x>3", "3<x"), ("x>3", r"(3,\infty)"), (r"k \geqslant 2", r"k\ge2"),
    (r"k \geqslant 2", r"2 \le k"), (r"-80\leq g(x)\leq 82", r"82 \ge g(x) \ge -80"),
    (r"s^2 \le 8r^2", r"8r^2 \ge s^2"), (r"x<1 \text{ or } x>2", r"x>2 \text{ or } x<1"),
    (r"x<1 \text{ or } x>2", r"(-\infty,1)\cup(2,\infty)"),
    # sets
    (r"\{1,2,3\}", "1,2,3"), (r"\{1,2,3\}", r"\{3,2,1\}"),
    (r"\{1\pm\sqrt{5},-2\}", r"\{-2,1+\sqrt5,1-\sqrt5\}"),
    (r"\{1\pm\sqrt{5},-2\}", r"1+\sqrt5,1-\sqrt5,-2"), (r"\{x \mid x > 3\}", r"\{x : x>3\}"),
    (r"\{4,5,7\}", r"\lbrace 4, 5, 7\rbrace"), (r"\{1,2\}", r"\left\{ 1, 2 \right\}"),
    (r"\emptyset", r"\varnothing"), (r"\emptyset", r"\text{no solution}"),
    (r"\text{no solution}", r"\emptyset"), (r"\text{no solution}", r"\text{no solutions}"),
    (r"\text{No solution}", r"\text{there is no solution}"),
    (r"\text{no real solutions}", r"\text{no solution}"),
    # plus minus
    (r"\pm 3", "3,-3"), (r"\pm 3", "-3, 3"), ("3,-3", r"\pm3"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"),
    (r"\frac{1\pm\sqrt5}{2}", r"\frac{1+\sqrt5}{2},\frac{1-\sqrt5}{2}"),
    (r"\frac{1+\sqrt5}{2},\frac{1-\sqrt5}{2}", r"\frac{1\pm\sqrt5}{2}"), ("2,-2", r"x=\pm 2"),
    (r"x=\pm 2", "2,-2"), (r"\pm\sqrt2", r"\sqrt2,-\sqrt2"), (r"\pm\frac{1}{2}", "-0.5, 0.5"),
    (r"3 \pm 2 \sqrt{2}", r"3+\sqrt8, 3-\sqrt8"), (r"\pm 1, \pm 7", "1,-1,7,-7"),
    ("1,-1,7,-7", r"\pm 1, \pm 7"), (r"\pm i", "i,-i"), (r"-2\pm i", "-2+i,-2-i"),
    (r"(\pm 3, 2)", "(3,2),(-3,2)"),
    # mixed numbers
    (r"10\frac{1}{12}", r"\frac{121}{12}"), (r"-15\frac{3}{5}", "-15.6"),
    (r"-15\frac{3}{5}", r"-\frac{78}{5}"), (r"3\frac{1}{2}", "3.5"),
    (r"3\frac{1}{2}", r"3 + \frac12"), ("3 1/2", "7/2"),
    (r"6\frac{1}{6}\text{ feet}", r"\frac{37}{6}"), (r"137 \frac{1}{2}", "137.5"),
    (r"1\frac{4}{5}", "9/5"), (r"14\frac{6}{7}", r"\frac{104}{7}"),
    # tuples
    ("(-4, 27);(2, 15)", "(2,15),(-4,27)"), ("(1,2)", "(1;2)"), ("(1,2)", r"\langle 1,2\rangle"),
    ("(1,2)", r"\begin{pmatrix}1\\2\end{pmatrix}"), (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"),
    ("(1,2)", "1, 2"), ("(1,2)", "x=1, y=2"), ("(3,-1)", "(3, -1)."),
    ("(2,3),(4,5)", r"(2,3) \text{ and } (4,5)"), ("(2,3),(4,5)", r"\{(2,3),(4,5)\}"),
    (r"(6,235^\circ)", "(6,235)"), (r"\left( 2, \frac{5 \pi}{3} \right)", r"(2, 5\pi/3)"),
    ("(1,7,103, 105), (3, 5, 101, 107)", "(3,5,101,107),(1,7,103,105)"),
    (r"(5,\pi,-8)", r"(5, \pi, -8)"), ("(1,2)", "P(1,2)"), ("(1,2)", "P=(1,2)"),
    # matrices
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
     r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}"),
    (r"\begin{pmatrix} 1/3 \\ -1/6 \\ 1/6 \end{pmatrix}",
     r"\frac16\begin{pmatrix} 2 \\ -1 \\ 1 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
     r"\left(\begin{array}{c} 1 \\ 2 \end{array}\right)"),
    (r"\begin{pmatrix} 1 & -1 \\ 1 & \phantom -1 \end{pmatrix}",
     r"\begin{pmatrix} 1 & -1 \\ 1 & -1 \end{pmatrix}"),
    (r"\begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}",
     r"A = \begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}"),
    (r"\begin{pmatrix} \sqrt{2}/2 \\ 0 \end{pmatrix}",
     r"\begin{pmatrix} \frac{1}{\sqrt2} \\ 0 \end{pmatrix}"),
    # logs/roots
    (r"\log_2 10", r"\frac{\ln 10}{\ln 2}"), (r"\log_2 10", r"1+\log_2 5"),
    (r"2,-\log _{10} 250", r"2, -\log_{10} 250"), (r"\log_{10} 2", r"\lg 2"),
    (r"\log 2", r"\log_{10} 2"), (r"\ln 2", r"\log_e 2"), (r"\log_3 9", "2"), ("2", r"\log_3 9"),
    (r"\ln 4", r"2\ln 2"), (r"\frac{\log 2}{\log 2-\log 3}", r"\frac{\ln 2}{\ln 2-\ln 3}"),
    (r"\log\left(\frac{2007}{2006}\right)", r"\log 2007 - \log 2006"), (r"\ln(x)", r"\ln x"),
    (r"\ln |x|+C", r"\ln|x| + C"), (r"\log_{2}8x", r"\log_2(8x)"),
    (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"), (r"1+\sqrt2", r"\sqrt{3+2\sqrt{2}}"),
    (r"\sqrt[3]{2}", "2^{1/3}"), (r"\sqrt[4]{8}", "8^{1/4}"), (r"\sqrt[4]{8}", r"2^{\frac34}"),
    (r"\frac{\sqrt{6}-\sqrt{2}}{4}", r"\frac{\sqrt{2-\sqrt3}}{2}"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt2}"),
    (r"\frac{3}{\sqrt{10}}", r"\frac{3\sqrt{10}}{10}"), (r"4-2\sqrt3", r"(\sqrt3-1)^2"),
    (r"\sqrt{185} - 4", r"-4+\sqrt{185}"), ("12^{1/7}", r"\sqrt[7]{12}"),
    (r"\sqrt{12}", r"2\sqrt3"), (r"\frac{8}{\sqrt[3]{7}}", r"\frac{8\sqrt[3]{49}}{7}"),
    (r"\sqrt2+\sqrt5", r"\sqrt{7+2\sqrt{10}}"), (r"\sqrt{x^2}", "|x|"),
    ("3^{2/3}", r"\sqrt[3]{9}"), ("2^{-2/3}", r"\frac{1}{\sqrt[3]{4}}"), ("2^{1009}", "4^{504.5}"),
    ("2^{100}-2", "2(2^{99}-1)"), (r"\frac{100!}{2^{50}}", "100!/2^{50}"),
    ("10^{100}", r"10^{99}\cdot 10"), ("2^{27} - 2^{11}", "134215680"), ("5^{12}", "244140625"),
    # bases
    ("1011_2", "1011_{2}"), ("1011_2", r"1011_{\text{two}}"), ("1011_2", "1011"),
    ("1011_2", "(1011)_2"), ("2516_8", "2516_{8}"), (r"\text{A5}_{11}", "A5_{11}"),
    (r"\text{A5}_{11}", "A5"), ("1011_2", r"\overline{1011}_2"), ("12_5", r"12_{\text{five}}"),
    ("28_9", "28_9."),
    # times, dates
    ("3:45", "3:45"), ("3:45", r"3\!:\!45"), (r"05\!:\!00", "5:00"),
    (r"8\!:\!34 \text{ p.m.}", "8:34 PM"), (r"4\!:\!51\!:\!06 \text{ p.m.}", r"4:51:06\text{ PM}"),
    ("19:60", "19:60"), (r"3:45\text{ p.m.}", r"\text{3:45 p.m.}"),
    (r"\text{October 30}", "October 30"), (r"\text{Friday}", "friday"),
    ("10:00 AM", r"10:00\text{ a.m.}"),
    # percent/fraction
    (r"20 \%", r"\frac15"), (r"20 \%", "20"), (r"20 \%", "0.2"), ("0.2", r"20\%"),
    (r"\frac15", r"20\%"), ("17.5%", r"17.5\%"), ("17.5%", r"\frac{7}{40}"), (r"237.5\%", "2.375"),
    ("62.5%", r"62\frac12\%"), (r"33\frac13\%", r"\frac13"), (r"\frac13", r"33\frac{1}{3}\%"),
    ("50", "50%"), ("0.5", "50%"), (r"8 \%", "8"), ("150", r"150\%"), ("1", r"100\%"),
    # ratio
    ("3:4", "3:4"), ("3:4", "6:8"), ("3:4", r"\frac34"), ("3:4", "3/4"), ("3:4", r"3\text{ to }4"),
    ("1 : 2", "1:2"), ("1:4", r"\frac14"), (r"\frac34", "3:4"), ("1:2:3", "2:4:6"), ("3:1", "3"),
    # scientific
    ("4.5e33", r"4.5\times10^{33}"), ("4.5e33", r"4.5 \cdot 10^{33}"), ("4.5e33", "4.5E33"),
    ("4.5e33", r"45 \times 10^{32}"), ("1e-3", "0.001"),
    ("1.07e16", r"1.07 \times 10^{16}\text{ J}"), ("1.07e16", "10700000000000000"),
    ("3e8", r"3\times 10^8 \mathrm{~m/s}"), ("1.24e-8", r"1.24\times 10^{-8}"),
    ("1.24e-8", "1.24*10^-8"), ("1.24e-8", "1.24 x 10^{-8}"), (".0000672", r"6.72\times10^{-5}"),
    ("7.353e14", r"7.353\times 10^{14}"), ("1.04e-3", "0.00104"), ("6e13", r"6\cdot10^{13}"),
    ("2.5e6", "2.5 million"), ("2e27", r"2 \times 10^{27} \text{ kg}"),
    # choices
    (r"\text{(A)}", "A"), (r"\text{(A)}", r"\textbf{(A)}"), (r"\text{(A)}", r"\text{A}"),
    (r"\text{(A)}", r"\text{(A) } 5"), (r"\text{(A)}", r"\textbf{(A)}\ 5"),
    ("A", r"\text{(A) }\frac12"), (r"\text{(E)},", "E"), (r"\text{A, B}", "A,B"),
    (r"\text{A, B}", "B, A"), (r"\text{A,B}", r"A \text{ and } B"), (r"\text{CBAD}", "CBAD"),
    (r"(\text{H})", "H"), (r"\text{(P)}", "P"), ("A", r"\text{Option A}"),
    ("A", r"\text{Answer: A}"), ("A", r"\text{choice (A)}"), ("A", "A)"), ("D", "(D) 12"),
    ("B", "B."),
    # words
    ("2", "two"), ("two", "2"), (r"\mbox{four}", "4"), ("4", "four"), ("12", "twelve"),
    ("20", "twenty"), ("21", r"\text{twenty-one}"), ("100", "one hundred"),
    (r"\text{infinitely many}", "infinitely many"), (r"\text{ellipse}", "an ellipse"),
    (r"\text{ellipse}", r"\text{Ellipse}"), (r"\text{even}", r"\text{Even}"),
    (r"\text{neither}", "neither"), (r"\text{east}", "East"), ("True", "true"),
    (r"\text{Navin}", "Navin"),
    (r"\text{Softball, Kickball, Picnic}", "Softball, Kickball, Picnic"),
    (r"\text{empty}", r"\emptyset"), (r"\text{undefined}", "undefined"),
    (r"\text{DNE}", "does not exist"), ("1", "one"), ("1.5", "one and a half"), ("0.5", "half"),
    ("0", "zero"),
    # expressions
    ("x+y", "y+x"), ("ab", "ba"), ("2xy + 10x + 20y + 100", "2(x+10)(y+5)"),
    ("a^2-b^2", "(a-b)(a+b)"), ("-(ab + ac + bc)", "-ab-bc-ca"), ("(x-1)^3(x+1)^3", "(x^2-1)^3"),
    ("x^2-1", "(x-1)(x+1)"), ("19x(x^2+4)", "19x^3+76x"),
    (r"\frac{2ab}{a^2+b^2}", r"\frac{2}{\frac{a}{b}+\frac{b}{a}}"), (r"\frac{a}{b}", "a/b"),
    ("1/2x", r"\frac{1}{2x}"), ("1/(2x)", r"\frac{1}{2x}"), ("3x + 8", "8+3x"),
    ("3^x - 2^x", "3^{x}-2^{x}"), ("n!", "n(n-1)!"), (r"\binom{2n}{n}", r"\frac{(2n)!}{(n!)^2}"),
    (r"\binom{10}{3}", "120"), (r"{10 \choose 3}", "120"), ("2^{n - 1}", r"\frac{2^n}{2}"),
    ("2^{k-n}", r"\frac{2^k}{2^n}"), ("(-1)^{n+1}", "-(-1)^n"), ("e^{t} / 3", r"\frac13 e^t"),
    (r"\frac{\cos (2 t)}{15}", r"\frac{1}{15}\cos 2t"), (r"\cos^2\alpha", r"1-\sin^2\alpha"),
    (r"\tan x", r"\frac{\sin x}{\cos x}"), (r"2 \sec x", r"\frac{2}{\cos x}"),
    (r"\sin^{-1} x", r"\arcsin x"), (r"\sin 2x", r"2\sin x\cos x"),
    (r"\lfloor\frac{2 n-1}{5}\rfloor", r"\left\lfloor \frac{2n-1}{5} \right\rfloor"),
    (r"m n-\lfloor m / 2\rfloor", r"mn - \lfloor \frac{m}{2}\rfloor"),
    (r"\lceil n / 2\rceil+1", r"\lceil \frac n2 \rceil + 1"), ("2RC+R+C", "R+C+2RC"),
    (r"\frac{1}{\sqrt{2}}c", r"\frac{c}{\sqrt2}"), (r"2.2 \tau", r"2.2\tau"),
    ("x^{-1}", r"\frac1x"), ("a^{1/2}", r"\sqrt a"), (r"10p^3 \sqrt{3p}", r"10\sqrt{3}p^{7/2}"),
    (r"100 p^{\frac{1}{2}}", r"100\sqrt p"), (r"\frac{n(n+1)}{2}", r"\binom{n+1}{2}"),
    (r"\frac{n(n+1)}{2}", r"\sum_{k=1}^n k"), (r"\frac{n(n+1)}{2}", r"\sum_{i=1}^{n} i"),
    ("1+2+3", "6"),
    # equations
    ("y = 2x + 3", "2x+3"), ("y = 2x + 3", "y=3+2x"), ("y = 2x + 3", "y-2x=3"),
    ("y = 2x + 3", "2x - y + 3 = 0"), ("2x + 3", "y=2x+3"), ("2x - y + 2z - 18 = 0", "2x-y+2z=18"),
    ("2x - y + 2z - 18 = 0", "-2x+y-2z+18=0"), ("2x - y + 2z - 18 = 0", "4x-2y+4z-36=0"),
    ("2x - y + 2z - 18 = 0", "0=2x-y+2z-18"), ("y^2 - 4x - 6y + 9 = 0", "(y-3)^2=4x"),
    ("x^2+y^2=1", "y^2 + x^2 = 1"), ("x^2+y^2=1", "x^2+y^2-1=0"), ("x + y + z = 0", "z=-x-y"),
    ("y = -2x", "2x+y=0"), (r"\tan \theta = 2\theta", r"2\theta=\tan\theta"), ("x=5", "5=x"),
    ("k = 6", "6"), ("r=6.2", "6.2"), ("N=n", "n"), ("n=k+4", "k+4"), ("n=k+4", "k=n-4"),
    # unsimplified / layout
    ("6", "2+4"), ("7", r"\boxed{7}"), ("7", "7."), ("7", "$7$"), ("7", r"\text{7 apples}"),
    ("7", "= 7"), ("7", r"\approx 7"), ("7", "7 "), ("7", "**7**"),
    ("7", r"7\text{ (approximately)}"), ("7", "approximately 7"), ("7", "about 7"),
    ("7", "The answer is 7"), ("7", r"\text{The answer is } 7"), ("7", "Answer: 7"),
    ("7", "7 or 7"), ("7", "07"), ("7", "7,"), ("7", "7/1"), ("1000", "1 000"),
    ("1000", "1,000.00"), ("12345", "12,345"), ("7", "+7"), ("-7", "−7"), ("7", r"\underline{7}"),
    ("7", r"\color{red}{7}"), ("7", r"\textcolor{blue}{7}"), ("7", "{7}"), ("7", r"\ 7"),
    (r"\frac{1}{2}", r"\frac{1}{2}\;"), (r"\frac{1}{2}", r"\nicefrac{1}{2}"),
    (r"\frac{1}{2}", r"{1 \over 2}"), (r"\frac12", r"\frac 1 2"), (r"\frac12", "½"), ("2.5", "2½"),
    ("x^2", "x²"), ("x_1", "x₁"), (r"\sqrt{2}", "√2"), (r"2\sqrt{2}", "2√2"),
    (r"\sqrt{10}", "√10"), (r"\frac{\sqrt3}{2}", "√3/2"), ("90", "90º"),
    # adversarial FPs around the new rules
    ("5", "5 or 5"), ("12", "12 h"), ("2", "2 s"), ("1/2", "1/2 m"), (r"\frac12", r"\frac12 m"),
    ("100", "100 m"), ("5", "5 C"), ("5", "5 A"), ("1", "-i^2"), ("i", r"\sqrt{-1}"),
    ("a+bi", "bi+a"), ("|3+4i|", "5"), (r"5e^{i\theta}", r"5\cos\theta+5i\sin\theta"),
    (r"\cos\frac{\pi}{3}+i\sin\frac{\pi}{3}", r"e^{i\pi/3}"),
    (r"2\operatorname{cis}\frac{\pi}{3}", r"2e^{i\pi/3}"), ("2i+3j", "3j+2i"),
    ("1+i,1-i", r"1\pm i"), ("g(x)h(x)", "h(x)g(x)"), ("f^{-1}(x)=2x", "2x"),
    ("P(x)=x^2-1", "x^2-1"), ("P(x)=x^2-1", "P(x)=(x-1)(x+1)"), ("a_n=2n-1", "2n-1"),
    ("S = 5", "5"), (r"\angle ABC = 30^\circ", r"30^\circ"), (r"\angle A = 30", "30"),
    ("|AB|=5", "5"), ("AB=5", "5"), (r"\overline{AB}=5", "5"),
    ("2 hours 30 minutes", "150 minutes"), ("2 hours 30 minutes", "2.5 hours"),
    ("2 hours and 30 minutes", r"2.5 \text{ hours}"), ("5 feet 6 inches", "66 inches"),
    (r"5\text{ ft }6\text{ in}", "5.5 ft"), ("5 feet, 6 inches", "66"),
    (r"\$5 \text{ and } 25 \text{ cents}", r"\$5.25"), ("30 cm", "0.3 m"), ("1 kg", "1000 g"),
    ("60 mph", r"88\text{ ft/s}"), (r"1 \text{ L}", "1000 mL"), ("1 dozen", "12"),
    ("3 weeks", "21 days"), ("2 years", "24 months"), ("100 cm^2", r"0.01\text{ m}^2"),
    (r"4\text{ m}^2", "4 square meters"), (r"4\text{ m}^2", r"4\text{ sq m}"),
    (r"20\text{ mL}", r"20\text{ cm}^3"), ("5%", "0.05"), ("5%", "5"), ("5%", r"\frac{1}{20}"),
    # numbers
    ("1,234", "1234"), ("0.10", "0.1"), ("1e3", "1000"), ("10^3", "1000"), ("1000000", "10^6"),
    ("6.02e23", r"6.02\times 10^{23}"), (r"\frac{1}{3}", r"0.33\overline{3}"), ("3.0", "3"),
    ("3", "3."), ("-0", "0"), ("+2", "2"), ("--2", "2"), ("2", "-(-2)"), ("-1./3", r"-\frac13"),
    ("-3./2", "-1.5"), (r"\frac{-7}{23}", r"-\frac{7}{23}"), (r"\frac{-1}{-2}", r"\frac12"),
    ("10^{10}", "10^10"), ("10^10", "10^{10}"), ("2^10", "1024"), ("x^10", "x^{10}"),
    ("2^{10}", "1024"), ("2**10", "1024"), (r"5 \cdot 10^3", "5000"), ("(3!)!", "720"),
    ("|{-5}|", "5"), (r"17 \pmod{23}", "17"), ("17", r"17 \pmod{23}"),
    (r"x \equiv 3 \pmod 7", "3"), (r"3 \bmod 7", "3"),
    # prose-like
    ("5", "five"), ("5", "Five"), ("5", r"\text{Five}"), ("15", "fifteen"),
    ("1000", "one thousand"), ("2.5", "two and a half"), ("-5", "negative five"), ("5", "+ 5"),
    ("5", "5 units"), ("5", r"5\text{ ways}"), ("5", "5th"), ("5", r"5^{\text{th}}"),
    ("5", r"\text{exactly } 5"), ("5", "n = 5"), ("5", r"\{5\}"), ("5", "(5)"), ("5", "[5]"),
    ("5", "5, 5"), ("5", "5/1"), ("5", "5:1"), ("5", "0.5e1"), ("5", "5x^0"), ("5", "5+0x"),
    ("Saturday", "saturday."), ("May 5", "5 May"), ("May 5", r"\text{May 5}"), ("blue", "Blue"),
    ("Alice and Bob", "Bob and Alice"), ("right triangle", "a right triangle"),
    # FPs where symbols vanish
    ("x_{12}", "x_{12}"), ("x_{i+1}", "x_{i+1}"), (r"\vec{v}", "v"), (r"\mathbf{v}", "v"),
]  # fmt: skip

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
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_right_as_written(gold, answer, grader):
    assert grader.grade(rf"\boxed{{{answer}}}", gold).outcome == "correct"


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_wrong_as_written(gold, answer, grader):
    assert grader.grade(rf"\boxed{{{answer}}}", gold).outcome == "wrong"


def test_made_pairs(grader):
    made = list(made_pairs(rounds=20, seed=1))
    outcomes = grader.grade_many((rf"\boxed{{{pair.answer}}}", pair.gold) for pair in made)
    expected = ["correct" if pair.right else "wrong" for pair in made]
    missed = [
        (pair, grade.outcome)
        for pair, want, grade in zip(made, expected, outcomes, strict=True)
        if want != grade.outcome
    ]
    assert not missed
