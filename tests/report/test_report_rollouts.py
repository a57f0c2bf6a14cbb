"""The rollouts of the page: an index of all of them, texts within a size, tokens where they lie."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import make_run

from open_rs.report.distributions import spread
from open_rs.report.load import RunData, load_run
from open_rs.report.rollouts import (
    Packer,
    Rollouts,
    grouped,
    num_tokens,
    read_rows,
    rollouts_of,
    without_arrays,
)
from open_rs.report.tokens import FIRST, Vocabulary, coded_levels, pieces_of, vocabulary_of
from open_rs.runs import RunFolder, write_jsonl


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def numbers(coded: str) -> list[int]:
    return [ord(one) - FIRST for one in coded]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    return load_run(make_run(tmp_path_factory.mktemp("runs") / "full"))


@pytest.fixture(scope="module")
def made(full: RunData) -> Rollouts:
    found = rollouts_of(full)
    assert found is not None
    return found


def test_every_rollout_is_in_the_index(made: Rollouts) -> None:
    index = made.index
    assert index["steps"] == list(range(1, 61))
    # 60 steps of 4 prompts, 8 completions of each
    assert len(index["group_step"]) == 240 and set(index["group_size"]) == {8}
    for column in ("outcome", "reward", "advantage", "tokens"):
        assert len(index[column]) == 1920
    assert set(index["outcome"]) == set("cwnu") and index["outcome"].count("u") == 1
    assert made.rule.startswith("1,920 rollouts of 60 steps are listed, all with their texts.")


def test_texts_are_those_of_the_files(full: RunData, made: Rollouts) -> None:
    rows = full.log(full.run.rollouts(7))
    groups = unpacked(made.packed[7])
    assert [one["text"] for group in groups for one in group["rollouts"]] == [
        row["completion"] for row in rows
    ]
    assert groups[1]["prompt"] == rows[8]["prompt"] and groups[1]["id"] == rows[8]["problem_id"]


def test_a_page_without_room_for_all_texts_spreads_them_over_the_steps(full: RunData) -> None:
    whole = rollouts_of(full)
    assert whole is not None
    size = sum(map(len, whole.packed.values()))
    half = rollouts_of(full, size // 2)
    assert half is not None
    assert size // 4 < sum(map(len, half.packed.values())) <= size // 2
    assert len(half.packed) > 50 and {1, 60} <= half.packed.keys()
    assert "groups, spread evenly over the steps" in half.rule
    assert half.index["group_here"].count("1") == sum(
        len(unpacked(one)) for one in half.packed.values()
    )
    few = rollouts_of(full, size // 20)  # a step in five or so: less than a group for each
    assert few is not None and {1, 60} <= few.packed.keys()
    steps = sorted(few.packed)
    assert max(np.diff(steps)) <= 25 and len(few.index["outcome"]) == 1920


def test_first_and_last_step_have_a_group_however_little_room_there_is(full: RunData) -> None:
    least = rollouts_of(full, 1)
    assert least is not None and sorted(least.packed) == [1, 60]


def test_a_completion_over_the_limit_keeps_both_ends(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_steps=1, completion="a" * 30_000 + "\\boxed{7}", evaluated=False)
    found = rollouts_of(load_run(run))
    assert found is not None
    text = unpacked(found.packed[1])[0]["rollouts"][0]["text"]
    # 30,000 + 9 characters, 20,000 of them kept
    assert "[10,009 characters left out]" in text and text.endswith("\\boxed{7}")
    assert "32 completions of more than 20,000 characters" in found.rule


def rows_of(*rows: dict[str, Any]) -> Any:
    return iter([(row, {}) for row in rows])


def test_grouped_splits_by_problem_and_by_repetition() -> None:
    groups = grouped(
        rows_of(
            {"problem_id": "a", "sample": 0},
            {"problem_id": "a", "sample": 1},
            {"problem_id": "b", "sample": 0},
            {"problem_id": "b", "sample": 0},  # drawn twice in one step
        )
    )
    ids = [(group.rows[0]["problem_id"], len(group.rows)) for group in groups]
    assert ids == [("a", 2), ("b", 1), ("b", 1)]


def test_arrays_are_cut_out_and_never_from_a_text(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    text = 'so "completion_ids": [1, 2] and \\"engine_logprobs\\": [3'
    row = {"problem_id": "a", "completion": text, "completion_ids": [5, 6, 7], "prompt_ids": []}
    write_jsonl(run.rollouts(1), [row])
    data = RunData(run)
    [(read, arrays)] = read_rows(data, run.rollouts(1))
    assert read["completion"] == text and data.damaged == []
    assert arrays == {"completion_ids": b"[5, 6, 7]", "prompt_ids": b"[]"}
    assert num_tokens(read, arrays) == 3
    odd = b'{"completion_ids":[[1], 2], "engine_logprobs":   7, "prompt_ids":[1]}'
    assert without_arrays(odd) == (odd[:-4] + b" null}", {"prompt_ids": b"[1]"})
    assert num_tokens({}, {"completion_ids": b"[]"}) == 0
    assert num_tokens({"num_tokens": 9}, {"completion_ids": b"[]"}) == 9  # of an endpoint
    assert num_tokens({}, {}) is None


def test_lines_before_a_broken_one_count(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.rollouts(1).parent.mkdir()
    run.rollouts(1).write_bytes(gzip.compress(b'{"sample": 0}\n{"sample": \n{"sample": 2}\n'))
    data = RunData(run)
    assert len(list(read_rows(data, run.rollouts(1)))) == 1
    assert data.damaged == [
        "rollouts/000001.jsonl.gz: line 2: not valid JSON, so it and what follows is out"
    ]


# Token 4 is a special one, 5 and 6 are the two bytes of é, 7 has the whole of it
PIECES = [b"a", b"b", b" c", b"dd", b"", b"\xc3", b"\xa9", b"\xc3\xa9"]
VOCABULARY = Vocabulary(PIECES, np.array([len(one) for one in PIECES]))


@pytest.mark.parametrize(
    ("ids", "text", "lengths"),
    [
        ([0, 2, 3, 4], "a cdd", [1, 2, 2, 0]),
        ([0, 3, 1], "ad", [1, 1, 0]),  # a stop string cut the text
        ([0, 5, 6, 1], "aéb", [1, 0, 1, 1]),  # the byte that ends a character has it
        ([7, 1], "éb", [1, 1]),
        ([2, 1], "cb", [1, 1]),  # a decoder strips the first space
        ([0, 1], "ba", None),  # not what the ids spell
        ([0, 99], "a", None),
        ([], "", None),
    ],
)
def test_where_tokens_lie(ids: list[int], text: str, lengths: list[int] | None) -> None:
    found = VOCABULARY.lengths_in(ids, text)
    assert (None if found is None else found.tolist()) == lengths


def test_tokens_of_a_text_that_is_shown_by_name_and_of_wide_characters() -> None:
    pieces = [b"x", "\u202e".encode(), "🙂".encode(), b"y"]
    held = Vocabulary(pieces, np.array([len(one) for one in pieces]))
    # U+202E is shown as <U+202E>, 8 characters; a smiley is two UTF-16 units
    found = held.lengths_in([0, 1, 2, 3], "x\u202e🙂y")
    assert found is not None and found.tolist() == [1, 8, 2, 1]


def test_levels_of_log_probs() -> None:
    # 0.2 nats a level, rounded; 9 nats and more are level 45
    assert numbers(coded_levels([0.0, -0.09, -0.11, -1.0, -50.0])) == [0, 0, 1, 5, 45]
    assert numbers(coded_levels([float("nan"), float("-inf")])) == [0, 45]


def test_bytes_of_tokens_by_tokenizer_json() -> None:
    byte_level = {
        "model": {"vocab": {"Ġa": 0, "Ã": 1, "©": 2}},
        "added_tokens": [
            {"id": 3, "content": "<end>", "special": True},
            {"id": 4, "content": "</think>", "special": False},
        ],
        "decoder": {"type": "ByteLevel"},
    }
    assert pieces_of(byte_level) == [b" a", b"\xc3", b"\xa9", b"", b"</think>"]
    sentence_piece = {
        "model": {"vocab": [["▁a", -1.0], ["<0xC3>", -2.0]]},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
    }
    assert pieces_of(sentence_piece) == [b" a", b"\xc3"]
    assert pieces_of({"model": {"vocab": {"##a": 0}}, "decoder": {"type": "WordPiece"}}) is None


def test_the_tokenizer_that_ships_spells_its_own_text(tmp_path: Path) -> None:
    transformers = pytest.importorskip("tokenizers")
    held = vocabulary_of(tmp_path, "tiny")
    assert held is not None
    from importlib import resources

    file = resources.files("open_rs") / "assets" / "tiny" / "tokenizer.json"
    tokenizer = transformers.Tokenizer.from_file(str(file))
    text = "2 + 3 = 5, é 加 🙂\n</think>\n\\boxed{5}"
    encoded = tokenizer.encode(text, add_special_tokens=False)
    found = held.lengths_in(encoded.ids, tokenizer.decode(encoded.ids))
    assert found is not None and found.sum() == len(text.encode("utf-16-le")) // 2


def test_few_different_values_get_a_row_each() -> None:
    found = spread("r", "R", [(1, 0.0), (1, 1.5), (2, 1.5), (2, 1.5), (4, 0.0)], None)
    assert found is not None
    assert (found["labels"], found["bins"], found["width"]) == ([0.0, 1.5], False, 1)
    assert found["shares"] == [[0.5, 0.5], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    assert found["totals"] == [2, 2, 0, 1]


def test_many_values_are_binned_and_many_steps_put_together() -> None:
    points = [(step, float(step)) for step in range(1, 121)]
    found = spread("l", "L", points, 120)
    assert found is not None
    # 120 steps in columns of 2; 24 bins of 5 from 0 to 120, the last one with its end
    assert (found["width"], len(found["shares"]), len(found["labels"])) == (2, 60, 25)
    assert found["labels"][:2] == [0.0, 5.0] and found["totals"] == [2] * 60
    assert found["shares"][0][0] == 1.0 and found["shares"][-1][-1] == 1.0
    assert found["shares"][1][:2] == [0.5, 0.0] or found["shares"][1][0] == 1.0
    assert spread("l", "L", [], None) is None


def test_one_packer_learns_how_much_room_a_text_takes() -> None:
    packer = Packer(10_000, 10, None)
    groups = grouped(rows_of({"problem_id": "a", "completion": "x" * 400}))
    assert packer.add(1, groups, at_least=0) == 1  # half a byte a character, at first
    assert packer.characters == 401 and packer.bytes == len(packer.packed[1])
    assert packer.credit == 1000 - packer.bytes
