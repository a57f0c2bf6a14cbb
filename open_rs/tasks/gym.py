"""Tasks of reasoning-gym (arXiv 2505.24760) as sources: those whose gold our one grader can judge.

A data set is taken where one plain answer is right, and where the grader calls right what the data
set's own `score_answer` gives full marks. `perf/gym_golds.py` compares the two; the others are
refused by name. A problem belongs to one split, by a hash of its text: reasoning-gym's own seeds
would not do, since item i of seed s is item 0 of seed s + i, and a small space of problems comes
round again under any seed.
"""

import dataclasses
import difflib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from open_rs.errors import InputError
from open_rs.normalise import normalised
from open_rs.problems import place_of
from open_rs.recipe import Source
from open_rs.tasks import GYM

SPLITS = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}  # by problems.place_of
PATIENCE = 2_000  # draws in a row without a new problem after which a data set counts as used up
SIZE = 100_000  # of a data set: items are made when asked for, a plan of them ahead by some
SHORTEST_TEXT = 4  # letters: fewer are a product of symbols to the grader, in any order

# What the golds of a data set are. A `word` is one of few (yes and no, names); a `text` is spelled
# out by the problem, so that its letters in another order are a wrong answer.
GOLDS: Mapping[str, tuple[str, ...]] = {
    "number": (
        *("aiw", "basic_arithmetic", "binary_alternation", "chain_sum", "circuit_logic"),
        *("coin_flip", "complex_arithmetic", "count_bits", "count_primes", "decimal_arithmetic"),
        *("decimal_chain_sum", "dice", "gcd", "gsm_symbolic", "largest_island", "lcm"),
        *("leg_counting", "letter_counting", "maze", "number_sequence", "products"),
        *("rectangle_count", "rotten_oranges", "self_reference", "simple_equations"),
        "simple_geometry",
    ),
    "formula": ("advanced_geometry", "polynomial_equations", "polynomial_multiplication"),
    "word": (
        *("calendar_arithmetic", "color_cube_rotation", "course_schedule"),
        *("family_relationships", "isomorphic_strings", "mahjong_puzzle", "needle_haystack"),
        *("ransom_note", "syllogism", "zebra_puzzles"),
    ),
    "text": ("figlet_font", "spell_backward", "string_insertion", "string_manipulation"),
}

REFUSED: Mapping[str, tuple[str, ...]] = {
    "many answers are right, and its gold is one of them or none": (
        *("boxnet", "countdown", "cryptarithm", "graph_color", "intermediate_integration", "jugs"),
        *("kakurasu", "knight_swap", "n_queens", "palindrome_generation", "propositional_logic"),
        *("puzzle24", "quantum_lock", "rubiks_cube", "rush_hour", "shortest_path"),
        *("simple_integration", "sokoban", "tower_of_hanoi", "tsumego", "word_ladder"),
    ),
    "its gold is a grid or a list, which the grader takes in any order or cannot read": (
        *("ab", "arc_1d", "arc_agi", "binary_matrix", "futoshiki", "game_of_life"),
        *("group_anagrams", "list_functions", "manipulate_matrix", "mini_sudoku", "modulo_grid"),
        *("number_filtering", "number_sorting", "palindrome_partitioning", "path_star"),
        *("pool_matrix", "rearc", "rotate_matrix", "spiral_matrix", "string_splitting"),
        *("string_synthesis", "sudoku", "survo", "word_sequence_reversal", "word_sorting"),
    ),
    "its gold is a sentence, a time or a structure, which the grader cannot read": (
        *("caesar_cipher", "codeio", "emoji_mystery", "knights_knaves", "letter_jumble"),
        *("sentence_reordering", "time_intervals"),
    ),
    "it asks for one form of a value, and the grader takes every form": (
        *("base_conversion", "bitwise_arithmetic", "fraction_simplification"),
        "prime_factorization",
    ),
    "its gold has more digits than the problem asks for": ("number_format", "power_function"),
    "its own score_answer calls every answer right": ("game_of_life_halting",),
    "it prints while it makes problems": ("bf",),
    "it makes all its problems before it gives the first": ("acre",),
    "it is put together from other data sets: name those, each as a source": ("composite",),
}
KIND_OF = {name: kind for kind, names in GOLDS.items() for name in names}


def gym_rows(source: Source) -> Iterator[dict[str, str]]:
    """`source.count` distinct problems of one data set and split; same settings, same rows.

    Passed over are problems whose gold cannot be judged, or is wrong by its own `score_answer`.
    """
    name = (source.task or "").removeprefix(GYM)
    check_name(name)
    if source.split not in SPLITS:
        raise InputError(f"split {source.split!r} unknown; use one of {', '.join(SPLITS)}")
    start, end = SPLITS[source.split]
    made = open_data_set(name, source.options, seed=spread_seed(name, source.seed))
    seen: set[str] = set()
    item = last = 0
    while len(seen) < (source.count or 0):
        if item - last > PATIENCE or item == SIZE:
            raise InputError(
                f"{source.task}: no more distinct problems in split {source.split!r} after "
                f"{len(seen)}; ask for fewer or set other options"
            )
        entry = made[item]
        item += 1
        text, gold = entry["question"], entry["answer"]
        key = normalised(text)
        if key in seen or not start <= place_of(text) < end or not is_plain(gold, KIND_OF[name]):
            continue
        if made.score_answer(gold, entry) != 1.0:  # gsm_symbolic: a gold below 0
            continue
        seen.add(key)
        last = item
        yield {"problem": text, "answer": gold, "source": f"reasoning_gym/{name}"}


def is_plain(gold: Any, kind: str) -> bool:
    """Whether the grader can judge this gold: one line of text, and no word that is too short."""
    if not isinstance(gold, str) or not gold.strip() or "\n" in gold:
        return False
    return kind != "text" or len(gold) >= SHORTEST_TEXT


def check_name(name: str) -> None:
    """InputError for a data set that is not taken, with the reason."""
    for reason, names in REFUSED.items():
        if name in names:
            raise InputError(f"task {GYM}{name}: {reason}; docs/tasks.md lists what is taken")
    if name not in KIND_OF:
        near = difflib.get_close_matches(name, KIND_OF, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "docs/tasks.md lists what is taken"
        raise InputError(f"task {GYM}{name} unknown; {hint}")


def open_data_set(name: str, options: Mapping[str, Any], *, seed: int) -> Any:
    """The data set of reasoning-gym under these options of its own configuration."""
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ModuleNotFoundError:
        raise InputError(
            f"task {GYM}{name} needs the package reasoning-gym; "
            'install it: pip install "open-rs[tasks]"'
        ) from None
    fields = {one.name for one in dataclasses.fields(DATASETS[name][1])} - {"seed", "size"}
    for key in options:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(fields))}"
            raise InputError(f"task {GYM}{name}: option {key!r} unknown; {hint}")
    try:
        return create_dataset(name, seed=seed, size=SIZE, **options)
    except (AssertionError, TypeError, ValueError) as error:  # what its configurations raise
        raise InputError(
            f"task {GYM}{name}: its options are refused ({error}); correct them"
        ) from error


def spread_seed(name: str, seed: int) -> int:
    """Seeds far apart, in 31 bits: item i is made from seed + i."""
    digest = hashlib.sha256(f"{name}/{seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
