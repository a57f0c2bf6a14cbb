"""Tokens in any order: the exact path refuses what it cannot read, and raises nothing."""

import random

import pytest

from open_rs.grade.exact import exact_verdict

SIGNS = r"""
0 1 2 5 10 0.5 .5 2. 1,234 x y i e f P C ' & + - * / = < ^ _ ! % | , ; : . $ { } ( ) [ ] \{ \} \\
e5 5e5 0b1 inf nan ** == ^2 ^{-1} 1:2 3:45 x= y=3 ½ ² ₂ ³ ٣ − € é \$ \% \frac \sqrt \sqrt[3] \binom
\log_ \sin \cis \pm \mp \le \in \approx \pi \infty \cup \ldots \prime \circ ^\circ \overline \dot
\angle \lfloor \rfloor \emptyset \mathbb{R} \mid \pmod \begin{pmatrix} \end{pmatrix} \boxed{
\text{m} \text{m^2^3} \text{a^2b^3} \text{per} \text{/} \text{^2} \text{and}
"""
WORDS = [" cm", " km/h", " apples", " half ", " squared ", "5 million", " and ", " or ", " not "]
TOKENS = [*SIGNS.split(), *WORDS, "\x00"]
GOLDS = [
    "5", "x", "(1,2)", r"5\text{ m}", "5 m", r"\pm 3", "[0,1)", "x=5", "y=2x+3", r"5\%", r"\$5",
    r"\infty", "2:3", "1,2,3", r"\{1,2\}", r"\approx 2.3", "A", r"\text{red}", "1011_2", "x>3",
    "2+3i", r"\frac{2}{3}\approx0.67", "3:45", r"\begin{pmatrix}1\\2\end{pmatrix}", "f(x)=2x",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_the_exact_path_raises_nothing(seed):
    draw = random.Random(seed)
    for number in range(4_000):
        answer = "".join(draw.choices(TOKENS, k=draw.randint(1, 40 if number % 3 == 0 else 9)))
        gold = draw.choice(GOLDS) if number % 4 else "".join(draw.choices(TOKENS, k=4))
        exact_verdict(gold, answer)


@pytest.mark.parametrize(
    "answer",
    [
        r"\binom5e5",
        r"\frac2.",
        r"5\text{ m^2^3}",
        r"5\text{ m}^2^3",
        r"x\text{ s^-1}^3",
        r"5\text{ m}^-i",
    ],
)
@pytest.mark.parametrize("gold", ["5", r"5\text{ m}"])
def test_answers_that_once_raised(gold, answer):
    assert exact_verdict(gold, answer) in ("wrong", "unknown")
