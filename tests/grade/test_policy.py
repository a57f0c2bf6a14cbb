"""docs/grading.md, case by case: (gold, answer, verdict)."""

import inspect
import sys

import pytest

from open_rs.grade.exact import exact_verdict

SAME = [
    # numbers
    ("18", "18.0"), ("18", "+18"), ("025", "25"), ("27.0", "27"), ("70000", "70,000"),
    ("70000", "70{,}000"), ("70000", r"70,\!000"), ("0.5", ".5"), ("0.5", r"\frac{1}{2}"),
    ("0.5", r"\frac12"), ("4.5e33", r"4.5 \times 10^{33}"), ("-3", "−3"), ("7", "７"),
    (r"\frac{14}{3}", "14/3"), (r"\frac{14}{3}", r"4\frac{2}{3}"), (r"\frac{14}{3}", "4 2/3"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"), (r"\frac{1}{2}", r"\dfrac{ 2 }{ 4 }"), ("8", "2^3"),
    ("120", "5!"), ("10", r"\binom{5}{2}"), ("3", r"\sqrt{9}"), ("3", r"\sqrt[3]{27}"),
    (r"\frac13", r"0.\overline{3}"), (r"\frac16", r"0.1\overline{6}"), (r"0.\overline{27}", "3/11"),
    (r"\frac13", r"0.\bar3"), (r"\frac13", r"0.\dot{3}"), (r"\frac13", "0.(3)"), ("7", "3.5(2)"),
    ("4", r"\lfloor 4.7 \rfloor"), ("5", "|-5|"), ("12", r"3 \times 4"), ("3", "three"),
    # units, money, percent, degrees, bases
    (r"2 \text{ euros}", "2"), ("2", r"2 \text{ euros}"), (r"\$42409", "42,409"),
    (r"42409", r"\$42{,}409"), (r"10\%", "10"), ("10", r"10\%"), (r"10\%", "0.1"),
    ("0.1", r"10\%"), (r"90^\circ", "90"), ("90", "90°"), (r"90^\circ", r"90 \text{ degrees}"),
    (r"8\text{ cm}", "8 centimeters"), (r"5 \text{ cm}^2", r"5 \text{ square cm}"),
    ("2220_5", "2220_{5}"), ("2220_5", "2220"), (r"\frac{11}{15}\text{ days}", "11/15"),
    ("5000000", "5 million"), ("5 million", "5,000,000"), ("12", r"1\text{ dozen}"),
    ("5", "5 apples"), ("5 red apples", "5 apples"), ("10 kJ", r"10\text{ kilojoules}"),
    ("3 km/h", r"3\text{ kilometers per hour}"), ("3 km/h", "3"), ("6:30 PM", r"6:30\text{ p.m.}"),
    (r"5\text{ square units}", r"5 \text{ units}^2"),
    (r"5\text{ square units}", "5"), ("5", "5 units"),
    ("2 million dollars", r"\$2{,}000{,}000"), (r"10\text{ N}", "10 newtons"),
    # expressions
    ("2n-2", "2(n-1)"), (r"3\sqrt{13}", r"\sqrt{13} \cdot 3"), ("6-5i", "-5i+6"),
    (r"\frac{1}{2n+2}", r"\frac{1}{2(n+1)}"), (r"2\pi", r"\pi + \pi"), ("(x+1)^2", "x^2+2x+1"),
    ("-1", "i^2"), ("2i", "(1+i)^2"), ("5", "(2+i)(2-i)"), (r"\frac{1}{1+i}", r"\frac{1-i}{2}"),
    (r"x^2 - x", "x(x-1)"), (r"\sin^2 t", r"\sin^2(t)"), (r"2^{1009}", r"2 \cdot 2^{1008}"),
    (r"\frac{\pi}{2}", "pi/2"), (r"2\pi", "2pi"), (r"2\pi r", "2 pi r"), (r"\sin x", "sin x"),
    (r"\frac{\sqrt3}{2}", "sqrt(3)/2"), (r"\sqrt{13}", "sqrt13"), (r"\ln 2", "ln(2)"),
    (r"\infty", "infinity"), (r"2\cos x", "2 cos x"), ("10000", "10 000"),
    ("1234567", "1\u202f234\u202f567"), ("10 000", "10,000"), ("-10000.5", "-10 000.5"),
    (r"\frac{2253}{563}", "4 1/563"), ("ABC", r"\text{ABC}"), ("AB", r"A \cdot B"),
    # names
    ("5", "x = 5"), ("x=5", "5"), ("x=5", "x = 5"), ("2x", "f(x) = 2x"), ("f(x)=2x", "2x"),
    ("5", "2+3=5"),
    (r"m_{\max }=n^2", "n^2"), (r"m_{\max}=n^2", r"m_{\text{max}} = n \cdot n"),
    ("[0,3)", r"x \in [0,3)"),
    # collections
    ("(3,-1)", r"\left( 3, -1 \right)"), ("(3,-1)", "3, -1"), ("1, 2", "2, 1"),
    ("1, 2", r"\{2, 1\}"), (r"\{1, 2\}", "1 and 2"), ("1, 2", r"1 \text{ or } 2"),
    ("5,-2", "x = 5 or x = -2"), ("5", r"\{5\}"), (r"1\pm\sqrt{2}", r"1-\sqrt{2}, 1+\sqrt{2}"),
    (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty)\cup(-\infty,1)"), ("1,1,2", "1,2"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
    ("x > 3", "3 < x"), ("x^2 = 4", "2x^2 - 8 = 0"), ("3:5", "3 : 5"), ("$69$,$84$", "69, 84"),
    (r"\emptyset", r"\{\}"),
    # words
    (r"\text{Evelyn}", "Evelyn"), (r"\text{Evelyn}", "evelyn"), ("(C)", "C"), (r"\text{(C)}", "C"),
    (r"\text{C}", "C."), ("Yes", r"\text{yes}"), (r"\text{May}", "May"),
    (r"\text{two lines}", "two lines"),
    # stated precision
    (r"\approx 3.14", r"\pi"), (r"\approx 10^{400}", "10^{400}"),
    (r"\approx 8.24 \text{ mph}", "8.2398"),
    # money and units in their spellings
    (r"\$0.50", "50 cents"), (r"\$0.50", r"50\text{ cents}"), (r"\$5", "5"), ("5", r"\$5"),
    (r"\$5", "5 dollars"), ("5 euros", "€5"), ("5€", "€5"), ("£5", "5 pounds"), (r"\$5", "$5"),
    ("$5$", "5"), (r"\$2\frac12", "2.50"), (r"-\$5", "-5"), (r"\$-5", "-5"),
    (r"\$2 million", "2000000"), (r"\$5", r"\$5 per hour"), (r"\$5\text{ per hour}", r"\$5"),
    (r"\$1,\!657", "1657"), (r"\$23{,}000", r"\$23,000"), (r"5.4 \text{ cents}", r"\$0.054"),
    (r"5.4 \text{ cents}", "5.4"), (r"80\text{ cents}", r"\$0.80"), (r"\$3, \$5", "3, 5"),
    (r"\$3, \$5", r"\$5 \text{ and } \$3"), (r"1.85\ \text{USD}", r"\$1.85"),
    (r"\$5", r"\text{\$5}"), (r"\$5", r"\$5\text{ USD}"), (r"\$5.50", r"\$5.5"),
    ("9.8", r"9.8\,\frac{\text{m}}{\text{s}^2}"), ("9.8", r"9.8\,\text{m/s}^2"),
    ("9.8", r"9.8\,\mathrm{m/s^{2}}"), ("9.8", r"9.8~\mathrm{m}/\mathrm{s}^2"),
    (r"9.8\text{ m/s}^2", r"9.8\,\frac{\text{m}}{\text{s}^2}"),
    ("9.8", r"9.8\ \mathrm{m \cdot s^{-2}}"), ("9.8", r"9.8\ \mathrm{m} \cdot \mathrm{s}^{-2}"),
    ("20", r"20^\circ\text{C}"), ("20", "20°C"), ("20", r"20^{\circ}\mathrm{C}"),
    ("20", r"20\,^\circ C"), (r"20^\circ\text{C}", "20°C"),
    (r"20^\circ\text{C}", r"20\text{ degrees Celsius}"), (r"20^\circ\text{C}", r"20^\circ"),
    ("20", r"20\text{ °C}"), ("20", r"20^{\circ \text{C}}"),
    (r"\frac{\text{A}}{\text{B}}", "A/B"), (r"\text{A}", "A"), (r"\frac{\text{A}}{2}", "A/2"),
    (r"x^{\text{A}}", "x^A"), (r"15\mbox{ cm}^2", r"15 \text{cm}^2"),
    (r"864 \mbox{ inches}^2", "864 square inches"), (r"864 \mbox{ inches}^2", "6 square feet"),
    ("1 m", "1 m"), ("100 cm", r"1\text{ m}"), ("2 hours", "120 minutes"),
    (r"5\text{ units}^2", "5"), ("90°", "90"),
    # degrees in functions, applications, letters as units, an index i
    (r"\sin 30^\circ", r"\sin\frac{\pi}{6}"),
    (r"\sin x^\circ", r"\sin\left(\frac{\pi x}{180}\right)"), ("f(x)", "f(x)"),
    ("f(x+1)", "f(1+x)"), ("f(4-x)", "f(-x+4)"), ("2f(x)", "f(x)+f(x)"), ("h(r+2)", "hr+2h"),
    ("g(x-y)", "gx-gy"), ("a(b+c)", "ab+ac"), ("x(x+1)", "x^2+x"), ("2x", "f(x)=2x"),
    ("f(x)=2x", "f(x) = x+x"), ("f(n)=n", "n"), ("f(x)^2", "f(x)f(x)"), ("5g", r"5\text{ g}"),
    ("5g", "5 grams"), ("3h", r"3\text{ hours}"), ("6 m^2", r"6\text{ m}^2"),
    (r"6\text{ m}^2", "6 m^2"), ("12", "12 m"), ("9.8", "9.8 m/s^2"),
    (r"9.8\text{ m/s}^2", "9.8m/s^2"), ("9.8", r"9.8 \frac{m}{s^2}"), ("100", "100 ft^2"),
    ("100 ft^2", r"100\text{ square feet}"), ("100", "100 cm^2"), ("100cm^2", "100"),
    ("5", "5 N"), ("10 N", "10 newtons"), (r"\frac{37}{4} m", r"\frac{37}{4}\text{ m}"),
    ("2 g h", "2gh"), ("3", "3 km/h"), ("12 kg", "12"), ("12", "12 kg m^2/s^2"),
    ("5 m", "500 cm"), ("i=3", "3"), ("f(i)=2i", "2i"),
    # names fix the order; values given in several ways
    ("x=3, y=7", "3, 7"), ("x=3, y=7", "(3,7)"), ("x=3, y=7", "y=7, x=3"), ("(4,5)", "y=5, x=4"),
    ("(4,5)", "x=4, y=5"), ("x=4, y=5", "(4,5)"), ("(4,5)", "m=4, b=5"),
    ("(4,5)", r"x=4 \text{ and } y=5"), ("4, 5", "x=4, y=5"), ("(x,y)=(4,5)", "x=4,y=5"),
    ("(x,y)=(4,5)", "y=5,x=4"), ("(x,y)=(4,5)", "(4,5)"), ("(4,5)", "(y,x)=(5,4)"),
    ("(1,2),(3,4)", r"x=1,y=2 \text{ or } x=3,y=4"), ("(1,2),(3,4)", "(x,y)=(1,2),(3,4)"),
    ("(1,2),(3,4)", "(3,4),(1,2)"), ("x=1,y=2,x=3,y=4", "(3,4),(1,2)"), ("5,-2", "x=5, x=-2"),
    ("5,-2", r"x=-2 \text{ or } x=5"), ("x=5, x=-2", "-2,5"),
    (r"$a=2$, $a=-6-4 \sqrt{2}$", r"2, -6-4\sqrt2"), ("$f(n)=n$, $g(n)=1$", "f(n)=n, g(n)=1"),
    ("$f(n)=n$, $g(n)=1$", "g(n)=1, f(n)=n"), ("$f(x)=x,f(x)=-x$", "f(x)=-x,f(x)=x"),
    ("$f(x)=x,f(x)=-x$", "x, -x"), ("f(z)=z", "f(x)=x"), ("f(x)=2x", "f(t)=2t"),
    (r"\frac23", r"\frac23 \approx 0.67"), ("0.67", r"\frac23 \approx 0.67"),
    ("3", r"2 \approx 3"), (r"\sqrt2", r"\sqrt{2} \approx 1.414"),
    (r"\sqrt2", r"x = \sqrt{2} \approx 1.414"), (r"\frac23 \approx 0.67", "0.67"),
    (r"\frac23 \approx 0.67", r"\frac23"), (r"x \approx 3.14", r"\pi"), (r"0.56 = 56\%", r"56\%"),
    (r"0.56 = 56\%", "0.56"), (r"x = 5 \text{ m}", "5"), ("5", "x=y=5"), ("x+y=5", "y+x=5"),
    (r"x = \frac{-1}{2}", "-0.5"), (r"V = \frac43\pi r^3", r"\frac43\pi r^3"),
    ("a=1,b=2,c=3", "(1,2,3)"), ("(3,5)", "p=3, q=5"),
]  # fmt: skip

DIFFERENT = [
    ("0.3", r"0.\overline{3}"), (r"\frac16", r"0.\overline{16}"), ("1", "i^2"), ("2", "2i"),
    ("18", "19"), ("18", "-18"), ("0.5", "0.51"), (r"\frac{1}{3}", "0.333333"),
    (r"\sqrt{2}", "1.41421356237"), ("1.6", "1.62"), ("7", "7x"), ("18", "18, 19"),
    ("5", "5 or 6"), ("2n-2", "2n-1"), ("2n", "2m"), ("6-5i", "6+5i"), ("8", "2^4"),
    (r"90^\circ", r"\frac{\pi}{2}"), (r"8\text{ cm}", r"8\text{ m}"), (r"10\%", "10.1"),
    (r"10\%", r"1000\%"), ("2220_5", "2221_5"), ("2220_5", "2220_6"), (r"\approx 3.14", "3.2"),
    ("(3,-1)", "(-1,3)"), ("(3,-1)", r"\{3,-1\}"), ("(3,-1)", "[3,-1]"), ("[0,3)", "[0,3]"),
    ("[0,3)", r"0 \le x < 3"), ("1, 2", "1"), ("1, 2", "1, 2, 3"), ("1, 2", "(1, 2)"),
    (r"\{1, 2\}", "(1, 2)"), (r"\text{Evelyn}", r"\text{Briana}"), ("(C)", "D"), ("Yes", "No"),
    (r"\text{Evelyn}", "7"), ("7", r"\text{seven apples}"), (r"\infty", r"-\infty"),
    (r"\infty", "10"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 2 & 1 \end{pmatrix}"),
    ("3:5", "5:3"), ("7", "9^{9^{9^9}}"), ("7", "(9!)!"), ("7", "1" * 3000),
    ("5", "5 million"), ("5 million", "5 billion"), ("5", "5 dozen"), ("5", "5 or more"),
    ("3", r"3\text{ is not the answer}"), ("6:30 PM", "6:30 AM"), ("3 km/h", "3 m/s"),
    (r"10\text{ N}", r"10\text{ J}"), ("10 N", "10 J"), ("10 kJ", "10 J"),
    ("5 apples", "5 oranges"), ("2ab", "2"), ("2ab", "2cd"), ("3x+2xy", "3x+2"),
    ("5 apples, 6", "5 oranges, 6"), ("5 or more", "5"), ("-5 apples, 6", "-5 oranges, 6"),
    ("ABC", "CBA"), ("TF", "FT"), (r"\pi", "pie"), (r"2\sin x", "2"), ("2 sin x", "2"),
    (r"\text{Paris}", r"\{1,2\}"), (r"\approx 10^{400}", "3"),
    # money and units in their spellings
    (r"\$5", r"5\text{ cents}"), (r"\$5", r"\text{5 euros}"), ("£5", r"\$5"), (r"\$5", "€5"),
    (r"2 \text{ euros}", r"\$2"), (r"80\text{ cents}", "0.8"),
    (r"9.8\text{ m/s}^2", r"9.8\,\frac{\text{m}}{\text{s}}"), ("20°C", "20°F"),
    ("2 hours", "120"),
    # degrees in functions, applications, letters as units, an index i
    (r"\sin 30", r"\sin 30^\circ"), (r"\sin 31^\circ", r"\frac12"), (r"\sin x^\circ", r"\sin x"),
    ("f(2)", "2f"), ("f(x)", "xf"), ("f(x)", "f(y)"), ("f(2)", "f(3)"), ("f(2)", "2"),
    ("g(2)", "2g"), ("f(x,y)", "f(y,x)"), ("5g", "5"), ("3h", "3"), (r"6\text{ m}^2", "6m"),
    ("12", "12m"), ("12", "12 x"), ("12 m", "12"), ("2m", "2n"), ("2x", "2 m"), ("m", "5 m"),
    ("12", "12 m + 1"),
    # names fix the order; values given in several ways
    ("x=3, y=7", "7, 3"), ("x=3, y=7", "(7,3)"), ("x=3, y=7", "x=7, y=3"), ("(4,5)", "y=4, x=5"),
    ("x=3, y=7", r"\{3,7\}"), ("(4,5)", "(y,x)=(4,5)"), ("$f(n)=n$, $g(n)=1$", "1, n"),
    ("f(z)=z", "f(x)=2x"), (r"\frac23", "0.67"), ("2", r"2 \approx 3"),
    (r"\frac23 \approx 0.67", "0.6"), (r"0.56 = 56\%", "0.57"), ("x=1, y=2", "x=1"),
    ("x=1, y=2", "1"), ("a=1,b=2,c=3", "(1,3,2)"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_the_same(gold, answer):
    assert exact_verdict(gold, answer) == "correct"


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different(gold, answer):
    assert exact_verdict(gold, answer) == "wrong"


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\sqrt{6}", r"\sqrt{2}\sqrt{3}"),  # equal in floating point, no proof
        (r"\cos(2x)", r"1 - 2\sin^2 x"),
        (r"(-\infty,3)", r"(-\infty,1)\cup[1,3)"),
        ("|x| = 2", "x^2 = 4"),
        (r"\lfloor n/2 \rfloor", "n/2"),  # differs at reals, may agree where it is meant
        (r"\int_0^1 x dx", r"\frac{1}{2}"),
    ],
)
def test_what_takes_algebra_is_left_to_the_worker(gold, answer):
    assert exact_verdict(gold, answer) == "unknown"


@pytest.mark.parametrize(
    "answer", ["9^{9^{x}} + (9^{9^{9}})^{x}", r"\sin(9^{9^{9}})", r"10^{400}!-1", "(9!)!-(9!)!"]
)
def test_what_cannot_be_afforded_is_undecided(answer):
    assert exact_verdict("7", answer) == "unsafe"


@pytest.mark.parametrize("sign", ["!", r"\%", "^2", "^2!"])
@pytest.mark.parametrize("signs", [1, 20, 40, 59])
@pytest.mark.parametrize("brackets", [5, 20, 29, 55])
def test_signs_that_nest_without_brackets_crash_nothing(sign, signs, brackets):
    answer = "(" * brackets + "3" + (")" + sign * signs + r"\times 40") * brackets
    assert exact_verdict("7", answer) in ("wrong", "unsafe", "unknown")


@pytest.mark.parametrize("frames", [60, 120, 240])
def test_a_caller_with_little_stack_left_gets_a_verdict(frames):
    def below(levels):
        if levels:
            return below(levels - 1)
        return exact_verdict("7", "(" * 25 + "3" + r")^2\times 40" * 25)

    levels = sys.getrecursionlimit() - len(inspect.stack(0)) - frames
    assert below(levels) == "unsafe"
