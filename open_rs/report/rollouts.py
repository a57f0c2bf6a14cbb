"""The rollouts that the page carries: all of them in an index, their texts as far as there is room.

A run may hold gigabytes. Token ids and log-probs, most of them, are cut out of each line before it
is parsed, and parsed only where the rollout's text goes into the page.
"""

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_rs.report.format import MAX_TEXT, count, cut, size
from open_rs.report.load import DAMAGE, Row, RunData
from open_rs.report.tokens import Vocabulary, coded, coded_levels, vocabulary_of
from open_rs.runs import log_lines
from open_rs.text import visible

MAX_BYTES = 11_000_000  # of packed texts in a page, as they stand in it
MAX_ANSWER = 300
TITLE = 90  # characters of a problem in the list

ARRAYS = ("prompt_ids", "completion_ids", "engine_logprobs")
_OUTCOMES = {"correct": "c", "wrong": "w", "no_answer": "n"}
UNDECIDED = "u"  # the grader could not say: timeout, error, bad gold


@dataclass
class Group:
    """The rows of one prompt in one step, arrays of numbers not parsed."""

    rows: list[Row]
    arrays: list[dict[str, bytes]]  # by the key that held them, one dict a row


@dataclass
class Rollouts:
    """`index` for the page, a packed text (gzip, base64) per step, and what is on the page."""

    index: Row
    packed: dict[int, str]
    rule: str
    tokens: list[tuple[int, float]] = field(default_factory=list)  # (step, tokens) of each rollout
    rewards: list[tuple[int, float]] = field(default_factory=list)


def rollouts_of(data: RunData, max_bytes: int = MAX_BYTES) -> Rollouts | None:
    """Every rollout of the run in the index, and the texts that fit; None without rollouts."""
    files = sorted((data.run.path / "rollouts").glob("*.jsonl.gz"))
    if not files:
        return None
    model = (data.recipe.get("model") or {}).get("path")
    vocabulary = vocabulary_of(data.run.path, model)
    index, packer = Index(), Packer(max_bytes, len(files), vocabulary)
    for place, file in enumerate(files):
        groups = grouped(read_rows(data, file))
        if not groups:
            continue
        kept = packer.add(step_of(file), groups, at_least=1 if place in (0, len(files) - 1) else 0)
        index.add(step_of(file), groups, kept)
    if not index.steps:
        return None
    rule = packer.rule(index) + shading(packer, vocabulary)
    return Rollouts(index.columns(), packer.packed, rule, index.lengths(), index.earned())


def read_rows(data: RunData, path: Path) -> Iterator[tuple[Row, dict[str, bytes]]]:
    """The rows of a file, each with its arrays of numbers as they stand there; a line that cannot
    be read is named among the damaged, and those before it count.
    """
    try:
        for number, line in enumerate(log_lines(path), start=1):
            rest, arrays = without_arrays(line)
            try:
                row = json.loads(rest) if rest else None
            except ValueError:
                data.damage(path, f"line {number}: not valid JSON, so it and what follows is out")
                return
            if isinstance(row, dict):
                yield row, arrays
    except DAMAGE as error:
        data.damage(path, error)


def without_arrays(line: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The line with null for its arrays of numbers, and these. A key between unescaped quotes
    and before a colon cannot stand inside a JSON text.
    """
    arrays: dict[str, bytes] = {}
    for name in ARRAYS:
        key = b'"%b":' % name.encode()
        start = line.find(key) + len(key)
        if start < len(key):
            continue
        end = line.find(b"]", start) + 1
        array = line[start:end].strip()
        if array.startswith(b"[") and array.count(b"[") == 1:
            arrays[name] = array
            line = b"%b null%b" % (line[:start], line[end:])
    return line, arrays


def grouped(rows: Iterator[tuple[Row, dict[str, bytes]]]) -> list[Group]:
    """The rows of a step as groups, in order; a problem drawn twice makes two groups."""
    groups: list[Group] = []
    seen: set[Any] = set()
    problem: Any = None
    for row, arrays in rows:
        sample = str(row.get("sample", 0))
        if not groups or row.get("problem_id") != problem or sample in seen:
            groups.append(Group([], []))
            problem, seen = row.get("problem_id"), set()
        seen.add(sample)
        groups[-1].rows.append(row)
        groups[-1].arrays.append(arrays)
    return groups


class Index:
    """What the page filters and orders by, as columns; a rollout's place is that of its group."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.groups: list[tuple[int, int, int, bool]] = []  # step, problem, rollouts, text is here
        self.problems: dict[str, tuple[int, str]] = {}  # id -> (place, title)
        self.outcomes: list[str] = []
        self.reward: list[float | None] = []
        self.advantage: list[float | None] = []
        self.tokens: list[int | None] = []

    def add(self, step: int, groups: list[Group], kept: int) -> None:
        self.steps.append(step)
        for place, group in enumerate(groups):
            first = group.rows[0]
            name = visible(str(first.get("problem_id", "")))[:MAX_ANSWER]
            title = " ".join(visible(str(first.get("problem", ""))[: 4 * TITLE]).split())[:TITLE]
            problem, _ = self.problems.setdefault(name, (len(self.problems), title))
            self.groups.append((len(self.steps) - 1, problem, len(group.rows), place < kept))
            for row, arrays in zip(group.rows, group.arrays, strict=True):
                self.outcomes.append(_OUTCOMES.get(str(row.get("outcome")), UNDECIDED))
                self.reward.append(rounded(row.get("reward")))
                self.advantage.append(rounded(row.get("advantage")))
                self.tokens.append(num_tokens(row, arrays))

    def columns(self) -> Row:
        steps, problems, sizes, here = zip(*self.groups, strict=True)
        return {
            "steps": self.steps,
            "problems": [[name, title] for name, (_, title) in self.problems.items()],
            "group_step": steps,
            "group_problem": problems,
            "group_size": sizes,
            "group_here": "".join("1" if one else "0" for one in here),
            "outcome": "".join(self.outcomes),
            "reward": self.reward,
            "advantage": self.advantage,
            "tokens": self.tokens,
        }

    def _with_steps(self, column: list[Any]) -> list[tuple[int, float]]:
        steps = (self.steps[place] for place, _, size, _ in self.groups for _ in range(size))
        return [
            (step, value) for step, value in zip(steps, column, strict=True) if value is not None
        ]

    def lengths(self) -> list[tuple[int, float]]:
        return self._with_steps(self.tokens)

    def earned(self) -> list[tuple[int, float]]:
        return self._with_steps(self.reward)


class Packer:
    """Packs the texts of each step within a share of the page's room.

    What a step leaves over goes to later ones, so a share below one group makes every few steps
    have one. How much room a text takes is learnt from those that were packed.
    """

    def __init__(self, max_bytes: int, num_steps: int, vocabulary: Vocabulary | None) -> None:
        self.share = max_bytes / num_steps
        self.max_bytes = max_bytes
        self.vocabulary = vocabulary
        self.packed: dict[int, str] = {}
        self.credit = 0.0
        self.characters, self.bytes = 2, 1  # of what was packed so far; the first step is a guess
        self.groups, self.cut, self.unshaded, self.rollouts = 0, 0, 0, 0

    def add(self, step: int, groups: list[Group], at_least: int) -> int:
        """Pack the first groups of a step that fit, and return how many."""
        self.credit += self.share
        kept: list[Row] = []
        characters = 0
        for group in groups:
            more = characters + sum(text_length(row, "completion") for row in group.rows)
            more += text_length(group.rows[0], "problem") + text_length(group.rows[0], "prompt")
            if len(kept) >= at_least and more * self.bytes / self.characters > self.credit:
                break
            kept.append(self._group(group))
            characters = more
        if kept:
            self._pack(step, kept, characters)
        return len(kept)

    def _pack(self, step: int, groups: list[Row], characters: int) -> None:
        packed = pack(groups)
        if not self.packed:
            self.characters, self.bytes = 0, 0
        self.packed[step] = packed
        self.characters += characters + 1
        self.bytes += len(packed)
        self.credit -= len(packed)
        self.groups += len(groups)

    def _group(self, group: Group) -> Row:
        first = group.rows[0]
        return {
            "id": visible(str(first.get("problem_id", "")))[:MAX_ANSWER],
            "problem": shown(first.get("problem")),
            "answer": shown(first.get("answer")),
            "prompt": shown(first.get("prompt")),
            "rollouts": [
                self._rollout(row, arrays)
                for row, arrays in zip(group.rows, group.arrays, strict=True)
            ],
        }

    def _rollout(self, row: Row, arrays: dict[str, bytes]) -> Row:
        extracted = row.get("extracted")
        text = str(row.get("completion", ""))
        self.rollouts += 1
        self.cut += len(text) > MAX_TEXT
        return {
            "sample": rounded(row.get("sample")) or 0,
            "text": shown(text),
            "outcome": visible(str(row.get("outcome") or "no outcome"))[:MAX_ANSWER],
            "extracted": None if extracted is None else visible(cut(str(extracted), MAX_ANSWER)),
            "finish": visible(str(row.get("finish_reason") or ""))[:MAX_ANSWER],
            "parts": {
                visible(str(name))[:MAX_ANSWER]: rounded(value)
                for name, value in (row.get("reward_breakdown") or {}).items()
            },
            **self._shading(text, arrays),
        }

    def _shading(self, text: str, arrays: dict[str, bytes]) -> Row:
        """Lengths of the tokens in the text and levels of their log-probs, where they are known."""
        ids = json.loads(arrays.get("completion_ids", b"[]"))
        logprobs = json.loads(arrays.get("engine_logprobs", b"[]"))
        lengths = None
        if self.vocabulary and ids and len(ids) == len(logprobs) and len(text) <= MAX_TEXT:
            lengths = self.vocabulary.lengths_in(ids, text)
        if lengths is None:
            self.unshaded += 1
            return {}
        return {"lengths": coded(lengths), "levels": coded_levels(logprobs)}

    def rule(self, index: Index) -> str:
        """What of the run's rollouts is on the page."""
        all_groups, rollouts = len(index.groups), count(len(index.outcomes))
        steps = "1 step" if len(index.steps) == 1 else f"{count(len(index.steps))} steps"
        text = f"{rollouts} rollouts of {steps} are listed"
        if self.groups == all_groups:
            text += ", all with their texts"
        else:
            text += (
                f"; {count(self.groups)} of {count(all_groups)} groups, spread evenly over the "
                f"steps, have their texts here (a page holds {size(self.max_bytes)} of them), and "
                "only those are searched; the others are in rollouts/*.jsonl.gz"
            )
        if self.cut:
            text += (
                f". {count(self.cut)} completions of more than {count(MAX_TEXT)} characters are "
                "shown without their middle"
            )
        return text + "."


def shading(packer: Packer, vocabulary: Vocabulary | None) -> str:
    """Why some texts are not shaded by log-probs."""
    if not packer.unshaded:
        return ""
    if vocabulary is None:
        return " No shading: the run holds no tokenizer that this page can read."
    if packer.unshaded == 1:
        return " 1 text has no shading: its recorded tokens do not spell it."
    return (
        f" {count(packer.unshaded)} texts have no shading: their recorded tokens do not spell them."
    )


def pack(value: Any) -> str:
    """JSON, gzipped, as base64: the page's script unpacks it when it is looked at."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    squeezed = gzip.compress(text.encode("utf-8", "replace"), compresslevel=6, mtime=0)
    return base64.b64encode(squeezed).decode("ascii")


def shown(text: Any) -> str:
    return visible(cut("" if text is None else str(text), MAX_TEXT))


def text_length(row: Row, key: str) -> int:
    return min(len(str(row.get(key) or "")), MAX_TEXT)


def num_tokens(row: Row, arrays: dict[str, bytes]) -> int | None:
    """Tokens of the completion: those told, else the ids counted by their commas."""
    if isinstance(row.get("num_tokens"), int):
        return int(row["num_tokens"])
    ids = arrays.get("completion_ids")
    if ids is None:
        return None
    return ids.count(b",") + 1 if ids.strip(b"[] \t") else 0


def rounded(value: Any) -> float | None:
    """Five significant digits of a finite number; None for anything else."""
    if not isinstance(value, int | float) or not abs(value) < 1e300:
        return None
    return int(value) if value == int(value) and abs(value) < 1e9 else float(f"{value:.5g}")


def step_of(path: Path) -> int:
    digits = path.name.split(".")[0]
    return int(digits) if digits.isdigit() else 0
