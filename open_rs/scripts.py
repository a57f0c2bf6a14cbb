"""Which scripts a text is written in: the share of its letters outside the expected ones. No model,
no torch; the language reward, curation and the watch over a run count by it.
"""

import re
import unicodedata
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from open_rs.recipe import SCRIPTS

NO_LETTER, OTHER_SCRIPT, FIRST_SCRIPT = 0, 1, 2  # indices; SCRIPTS follow from the last
# Letters in a row below which Latin and Greek ones are variables: x, but not an; alpha beta gamma
SHORTEST_WORDS = (("latin", 2), ("greek", 4))
# First words of the names of letters that belong to no language: made for mathematics and phonetics
NO_LANGUAGE = (
    *("MATHEMATICAL", "DOUBLE", "SCRIPT", "BLACK", "PLANCK", "EULER", "OHM", "KELVIN", "ANGSTROM"),
    *("MICRO", "ALEF", "BET", "GIMEL", "DALET", "TURNED", "ROMAN", "INFORMATION", "SUPERSCRIPT"),
    *("MODIFIER", "CARON", "FEMININE", "MASCULINE", "VERTICAL", "MASU"),
)
# Where names say nothing but a number, first and last code point
NUMBERED = (("han", 0x3400, 0x9FFF), ("han", 0x20000, 0x3FFFF), ("hangul", 0xAC00, 0xD7A3))

# Code, mathematics, commands of LaTeX, tags. Each alternative stops at its own next delimiter,
# possessively, so that no text takes more than linear time.
_NO_PROSE = re.compile(
    r"```(?:[^`]++|`(?!``))*+```"
    r"|`[^`\n]++`"
    r"|\\\$"  # a dollar sign that is no delimiter
    r"|\$\$[^$]++\$\$"
    r"|\$(?![\s$])(?:[^\s\\$]++|\\.|[^\S\n]++(?!\$))++\$(?![0-9])"  # pandoc's rule
    r"|\\\((?:[^\\]++|\\[^()])*+\\\)"
    r"|\\\[(?:[^\\]++|\\[^\[\]])*+\\\]"
    r"|\\[A-Za-z]++"
    r"|</?[A-Za-z]{1,16}>"
)


def outside_share(text: str, scripts: tuple[str, ...]) -> float:
    """Letters of words outside `scripts` / letters of words, over `prose`; 0 where it has none."""
    if "latin" in scripts and text.isascii():
        return 0.0
    inside = _inside(scripts)
    if inside[_script_of(text)].all():  # nothing to count against it, in formulas or elsewhere
        return 0.0
    found = _script_of(prose(text))
    for script, shortest in SHORTEST_WORDS:
        _leave_short_runs_out(found, FIRST_SCRIPT + SCRIPTS.index(script), shortest)
    letters = np.count_nonzero(found)
    return float(np.count_nonzero(~inside[found]) / letters) if letters else 0.0


def prose(text: str) -> str:
    r"""`text` without code (fenced, in backticks), mathematics, LaTeX commands and tags.

    Mathematics is `$$ $$`, `\( \)`, `\[ \]`, and on one line `$ $` by pandoc's rule, which tells it
    from money: no white space after the opening sign nor before the closing one, no digit after it.
    A delimiter that is not closed opens nothing.
    """
    return _NO_PROSE.sub(" ", text)


def _script_of(text: str) -> NDArray[np.uint8]:
    """The index of each character's script; 0 for what is no letter of a language."""
    points = np.array([text]).view("<u4") if text else np.zeros(0, "<u4")
    return _scripts_by_code_point()[points]


def _leave_short_runs_out(found: NDArray[np.uint8], script: int, shortest: int) -> None:
    """Set to 0 the letters of `script` in runs of fewer than `shortest`, in place."""
    mask = found == script
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    lengths = edges[1::2] - edges[::2]
    found[np.flatnonzero(mask)[np.repeat(lengths, lengths) < shortest]] = NO_LETTER


@lru_cache(maxsize=8)
def _inside(scripts: tuple[str, ...]) -> NDArray[np.bool_]:
    """By script index, whether it counts for the text; what is no letter counts not against it."""
    return np.array([True, False, *(script in scripts for script in SCRIPTS)])


@lru_cache(maxsize=1)
def _scripts_by_code_point() -> NDArray[np.uint8]:
    """Script index of every code point, 1.1 MB, from the names of the letters; built once."""
    table = np.zeros(0x110000, np.uint8)
    letters = np.char.isalpha(np.arange(len(table), dtype="<u4").view("<U1"))
    index = {script.upper(): number for number, script in enumerate(SCRIPTS, FIRST_SCRIPT)}
    for script, first, last in NUMBERED:
        table[first : last + 1][letters[first : last + 1]] = index[script.upper()]
    index |= {"CJK": index["HAN"], "IDEOGRAPHIC": index["HAN"]}
    index |= dict.fromkeys(NO_LANGUAGE, NO_LETTER)
    for point in np.flatnonzero(letters & (table == NO_LETTER)).tolist():
        words = re.split("[ -]", unicodedata.name(chr(point), "UNNAMED"))
        word = words[1] if words[0] in ("FULLWIDTH", "HALFWIDTH") else words[0]
        table[point] = index.get(word, OTHER_SCRIPT)
    return table
