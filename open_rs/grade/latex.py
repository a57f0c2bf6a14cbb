"""A tree written out again, with every bracket, so that math-verify reads what the reader read."""

from open_rs.grade.reader import Tree


class Unwritable(Exception):
    """The tree holds something that is no expression."""


def latex(tree: Tree) -> str:
    """LaTeX of an expression (no list, set, relation or words)."""
    kind, parts = tree[0], tree[1:]
    if kind == "num":
        value = parts[0]
        return (
            f"{value}"
            if value.denominator == 1
            else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
        )
    if tree == ("const", "i"):
        return r"\sqrt{-1}"  # a lone i is a symbol like any other there
    if kind in ("sym", "const"):
        return _symbol(parts[0])
    if kind == "neg":
        return f"-({latex(parts[0])})"
    if kind == "+":
        return "+".join(f"({latex(part)})" for part in parts)
    if kind == "*":
        return r" \cdot ".join(f"({latex(part)})" for part in parts)
    if kind == "/":
        return rf"\frac{{{latex(parts[0])}}}{{{latex(parts[1])}}}"
    if kind == "^":
        return f"({latex(parts[0])})^{{{latex(parts[1])}}}"
    if kind == "!":
        return f"({latex(parts[0])})!"
    if kind == "unit":
        return latex(parts[0])
    if kind == "call":
        return _call(parts[0], [latex(part) for part in parts[1:]])
    raise Unwritable(kind)


def _symbol(name: str) -> str:
    primes, name = name.count("'"), name.replace("'", "")
    letter, _, below = name.partition("_")
    below += "p" * primes  # a prime is lost on math-verify
    letter = rf"\{letter}" if len(letter) > 1 else letter
    return f"{letter}_{{{below}}}" if below else letter


def _call(name: str, arguments: list[str]) -> str:
    first = arguments[0]
    if name == "root":
        return rf"\sqrt{{{first}}}" if arguments[1] == "2" else rf"\sqrt[{arguments[1]}]{{{first}}}"
    if name == "abs":
        return f"|{first}|"
    if name in ("floor", "ceil"):
        return rf"\l{name} {first} \r{name}"
    if name == "binom":
        return rf"\binom{{{first}}}{{{arguments[1]}}}"
    if len(arguments) > 1:
        return rf"\{name}_{{{arguments[1]}}}({first})"
    return rf"\{name}({first})"
