"""Filters that look at the text of one row: several parts, proofs, scripts, length.

The rules read sentences without diagrams and formulas, and are made to be right where they speak:
what they drop was looked at (docs/curation.md).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from open_rs.curate.stages import Drop, Setting, Verdict, short
from open_rs.errors import InputError
from open_rs.problems import Problem
from open_rs.recipe import LanguageFilter, LengthFilter, MultiPartFilter, ProofFilter
from open_rs.scripts import outside_share, prose

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

LOOKED_AT = 20_000  # characters of a problem; no longer one was seen, and the rules are not linear
DIAGRAM = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)
# Dollar signs with a formula between them; an amount of money has no partner in its sentence
FORMULA = re.compile(r"\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\)|\$[^$]+\$", re.DOTALL)
QUOTED = re.compile(r"\"[^\"]*\"|``[^']*''|“[^”]*”", re.DOTALL)
SENTENCE = re.compile(r"(?:[^.?!\n]|[.?!](?!\s|$))+(?:[.?!]+|\n|$)")
FORMULA_LABEL = re.compile(r"\$\s*(\((?:[a-h]|[1-9]|i{1,3}|iv|v)\))\s*\$|\*+", re.IGNORECASE)
COMMANDS = (
    r"(?:find|compute|determine|calculate|evaluate|solve|simplify|estimate|express|state|prove|show"
    r"|sketch|draw|list|explain|give|write)"
)
QUESTION_WORDS = r"(?:what|which|how|who|when|where|why|is|are|do|does|did|can|will|at|in|by|for)"
# What may stand before the verb of a sentence that asks
LEAD = r"(?:\([^)]*\)\s*)?(?:(?:and|then|also|now|next|finally|hence|thus|so|please)\b,?\s*)*"
COMMAND = re.compile(rf"(?:^|[,;:])\s*{LEAD}{COMMANDS}\b", re.IGNORECASE)
QUESTION = re.compile(rf"(?:^|,)\s*{LEAD}{QUESTION_WORDS}\b[^?]*\?$", re.IGNORECASE)
LABEL = re.compile(
    r"(?:(?<=[\s.;:?!])|^)(?:\((?P<round>[a-h]|[1-9]|i{1,3}|iv|v)\)|(?P<bare>[a-h]|[1-9])[.)](?=\s)"
    r"|(?:part|question|task|sub-?problem|sub-?question)\s+(?P<named>[a-h]|[1-9]|i{1,3}|iv)\b[.:)]?)",
    re.IGNORECASE,
)
FIRST_LABELS = ("a", "1", "i", "0")
# "I.e., how many ...?", "What is m + n?" behind "in the form m/n": the same question again
AGAIN = re.compile(r"\s*(?:i\.?e\b|that is|in other words|or\b|for example)", re.IGNORECASE)
_OWN = r"(?:what|how (?:many|much|long|far|old|tall|fast|often)|find|determine|compute|calculate)\b"
TWO_IN_ONE = re.compile(rf"\b{_OWN}[^;]*?,?\s+and (?:also )?{_OWN}", re.IGNORECASE)
PROVE = re.compile(
    r"(?:^|[.:;!?,\n]\s*|\b(?:then|and|or|to)\s+)"
    r"(?:(?:dis)?prove\b|(?:show|verify|demonstrate)\b(?! (?:your|all|me|up)\b))"
    r"|\bgive (?:a|the) (?:rigorous |complete )?proof\b",
    re.IGNORECASE,
)
ANSWER_COMMAND = re.compile(
    r"(?:^\s*|,\s*|\b(?:then|and|also)\s+)"
    r"(?:find|compute|determine|calculate|evaluate|solve|simplify)\b",
    re.IGNORECASE,
)


def multi_part(problems: Sequence[Problem], spec: MultiPartFilter) -> list[Verdict]:
    """Drops problems with labelled parts that each ask, and those that put two questions."""
    return [_parts(problem.problem) for problem in problems]


def _parts(text: str) -> Verdict:
    plain = _prose(text)
    labels = _asking_labels(plain)
    if len(labels) > 1:
        return Drop("several labelled parts", ", ".join(labels))
    questions = _two_questions(plain)
    return None if questions is None else Drop("several questions", questions)


def _asking_labels(plain: str) -> list[str]:
    """The labels of parts that ask for something and are not solved on the spot."""
    found = list(LABEL.finditer(plain))
    labels = [next(name for name in one.groups() if name).lower() for one in found]
    if not any(label in FIRST_LABELS for label in labels):
        return []
    ends = [one.start() for one in found[1:]] + [len(plain)]
    parts = [plain[one.end() : end] for one, end in zip(found, ends, strict=True)]
    return [
        label
        for label, part in zip(labels, parts, strict=True)
        if "solution:" not in part.lower() and any(map(_asks, SENTENCE.findall(part)))
    ]


def _asks(sentence: str) -> bool:
    return sentence.rstrip().endswith("?") or COMMAND.search(sentence) is not None


def _two_questions(plain: str) -> str | None:
    """What shows that there are two: two questions in a row, the second not the first again, or one
    sentence with two.
    """
    sentences = [one.strip() for one in SENTENCE.findall(plain) if one.strip(" .?!\n")]
    for one, other in pairwise(sentences):
        if QUESTION.search(one) and QUESTION.search(other) and not AGAIN.match(other):
            return short(other)
    for one in sentences:
        double = TWO_IN_ONE.search(one) if _asks(one) else None
        if double is not None:
            return short(double.group())
    return None


def proof(problems: Sequence[Problem], spec: ProofFilter) -> list[Verdict]:
    """Drops problems that say "prove that" or the like and ask for nothing else."""

    def verdict(problem: Problem) -> Verdict:
        plain = _prose(problem.problem)
        asked = PROVE.search(plain)
        if asked is None or any(map(_asks_for_an_answer, SENTENCE.findall(plain))):
            return None
        return Drop("asks for a proof", short(plain[asked.start() :].lstrip(" .:;!?,\n")))

    return [verdict(problem) for problem in problems]


def _asks_for_an_answer(sentence: str) -> bool:
    return sentence.rstrip().endswith("?") or ANSWER_COMMAND.search(sentence) is not None


def _prose(text: str) -> str:
    """`text` with a sign for each diagram, formula and quotation, ends of sentences kept."""
    plain = FORMULA_LABEL.sub(r" \1 ", DIAGRAM.sub(" ", text[:LOOKED_AT]))
    plain = FORMULA.sub(_sign, plain)
    return QUOTED.sub('"', plain)


def _sign(match: re.Match[str]) -> str:
    """A formula as X, with the full stop or question mark that ends its sentence."""
    last = re.search(r"([.?!])\s*(?:\$+|\\\]|\\\))$", match.group())
    return "X" + (last[1] if last else "")


LanguageOf = Callable[[str], str]  # ISO 639 code of a text, or UNDECIDED
UNDECIDED = "und"
NO_LANGUAGE = (UNDECIDED, "zxx")  # the second: no words
FEWEST_LETTERS = 20  # of prose, below which a language is not judged
MOST_CHARACTERS = 400  # of prose that are looked at
CONFIDENCE = 0.5


def language(
    problems: Sequence[Problem], spec: LanguageFilter, language_of: LanguageOf | None
) -> list[Verdict]:
    """Drops problems with too large a share of letters outside the expected scripts, and those
    that are clearly in a language that is not expected, where the recipe names some.
    """

    def verdict(problem: Problem) -> Verdict:
        share = outside_share(problem.problem, spec.scripts)
        if share > spec.max_outside:
            return Drop("letters outside the expected scripts", f"{100 * share:.0f} % of them")
        if language_of is None:
            return None
        words = " ".join(prose(DIAGRAM.sub(" ", problem.problem)).split())[:MOST_CHARACTERS]
        if sum(map(str.isalpha, words)) < FEWEST_LETTERS:
            return None
        found = language_of(words)
        expected = found in spec.languages or found in NO_LANGUAGE
        return None if expected else Drop("another language", found)

    return [verdict(problem) for problem in problems]


@lru_cache(maxsize=1)
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 1 s, for named languages alone

    return LanguageIdentifier.from_model_file(
        MODEL_FILE, norm_probs=True, min_confidence=CONFIDENCE
    )


@contextmanager
def open_language(spec: LanguageFilter, setting: Setting) -> Iterator[LanguageOf | None]:
    """langid (Lui and Baldwin 2012), naive Bayes on byte n-grams, if languages are named."""
    if not spec.languages:
        yield None
        return
    identifier = _identifier()
    unknown = [one for one in spec.languages if one not in identifier.labels]
    if unknown:
        raise InputError(
            f"filter language: {unknown[0]!r} is no known language; known: "
            f"{', '.join(sorted(identifier.labels))}"
        )
    yield lambda text: str(identifier.classify(text)[0])


def length(problems: Sequence[Problem], spec: LengthFilter) -> list[Verdict]:
    """Drops rows whose problem, solution or answer is too short or too long."""

    def verdict(problem: Problem) -> Verdict:
        text: str = getattr(problem, spec.of)
        measured = len(text.split()) if spec.unit == "words" else len(text)
        detail = f"{measured} {spec.unit}"
        if spec.min is not None and measured < spec.min:
            return Drop(f"{spec.of} shorter than {spec.min} {spec.unit}", detail)
        if spec.max is not None and measured > spec.max:
            return Drop(f"{spec.of} longer than {spec.max} {spec.unit}", detail)
        return None

    return [verdict(problem) for problem in problems]
