"""The third way to value a tree: at one random point modulo a prime (Schwartz-Zippel).

What is not rational (roots, pi, sin ...) counts as a symbol of its own, so equal residues mean
equal expressions, up to a chance of (degree / 2^61). The prime is 1 modulo 4, so that -1 has a
square root there, which stands for i. Prime and point are drawn anew in each process: whoever knew
them could write two expressions that differ by a multiple of the prime.
"""

import hashlib
import secrets
from fractions import Fraction

from open_rs.grade.reader import Tree
from open_rs.grade.values import NoValue, exact_value, integer_exponent


def is_prime(number: int) -> bool:
    """Miller-Rabin with the first 12 primes, which is exact below 3.3e24 (Sorenson, Webster 2015,
    arXiv 1509.00864).
    """
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if number < 2 or any(number % base == 0 for base in bases):
        return number in bases
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def _random_prime() -> int:
    """A random prime between 2^61 and 2^62 that is 1 modulo 4."""
    while not is_prime(number := 2**61 + 1 + 4 * secrets.randbelow(2**59)):
        pass
    return number


def _root_of_minus_one(prime: int) -> int:
    """x with x^2 = -1: a^((p - 1) / 4) of an a that is no square, found by Euler's criterion."""
    other = 2
    while pow(other, (prime - 1) // 2, prime) == 1:
        other += 1
    return pow(other, (prime - 1) // 4, prime)


PRIME = _random_prime()
IMAGINARY = _root_of_minus_one(PRIME)
_SALT = secrets.token_bytes(16)


def modular_value(tree: Tree) -> int | None:
    """The residue of a rational function of symbols, and of whatever is taken as one."""
    try:
        return _modular(tree)
    except (NoValue, ZeroDivisionError, ValueError):
        return None


def is_rational_function(tree: Tree) -> bool:
    """Whether the residue rests on symbols and i alone, so that different residues mean different
    expressions.
    """
    kind = tree[0]
    if kind in ("num", "sym") or tree == ("const", "i"):
        return True
    if kind == "^":
        return is_rational_function(tree[1]) and integer_exponent(tree[2]) is not None
    if kind in ("+", "*", "/", "neg", "unit", "apply"):  # f is any function
        return all(is_rational_function(part) for part in tree[1:] if isinstance(part, tuple))
    return exact_value(tree) is not None


def _modular(tree: Tree) -> int:
    kind = tree[0]
    if kind == "num":
        return _residue(tree[1])
    if kind == "unit":
        return _modular(tree[1])
    if kind == "neg":
        return -_modular(tree[1]) % PRIME
    if kind == "+":
        return sum(_modular(part) for part in tree[1:]) % PRIME
    if kind == "*":
        product = 1
        for part in tree[1:]:
            product = product * _modular(part) % PRIME
        return product
    if kind == "/":
        return _modular(tree[1]) * pow(_modular(tree[2]), -1, PRIME) % PRIME
    if kind == "^":
        exponent = integer_exponent(tree[2])
        if exponent is not None:
            return pow(_modular(tree[1]), exponent, PRIME)
        return _symbol_residue(tree)
    if kind in ("call", "!"):
        value = exact_value(tree)
        return _symbol_residue(tree) if value is None else _residue(value)
    if tree == ("const", "i"):
        return IMAGINARY
    if kind in ("sym", "const", "apply"):
        return _symbol_residue(tree)
    raise NoValue


def _residue(value: Fraction) -> int:
    return value.numerator * pow(value.denominator, -1, PRIME) % PRIME


def _symbol_residue(tree: Tree) -> int:
    """A random residue for a symbol, or for a subtree that stands for itself; equal parts
    inside it (2x, x*2) are recognised by their own residues.
    """
    return _random(repr(_shape(tree)))


def _shape(tree: Tree) -> tuple[object, ...]:
    """The tree with each rational part replaced by its residue."""
    if tree[0] in ("call", "apply", "^", "!"):
        parts = (_modular(part) if isinstance(part, tuple) else part for part in tree[1:])
        return (tree[0], *parts)
    return tree


def _random(key: str) -> int:
    digest = hashlib.blake2b(key.encode(), digest_size=16, key=_SALT).digest()
    return int.from_bytes(digest) % (PRIME - 1) + 1
