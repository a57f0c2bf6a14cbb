"""The public benchmarks as rows of one table, and any local source in their place. No torch.

A benchmark is read from the folder that the environment variable OPEN_RS_BENCHMARKS names, where
that holds NAME.jsonl or NAME_SPLIT.jsonl with the columns of `Problem`, else from the hub. Ids are
the same either way: NAME/ID, or NAME/ROW (from 0) where the hub's rows have no id.
"""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from open_rs.errors import InputError
from open_rs.grade import Grader
from open_rs.problems import Problem, load_problems
from open_rs.recipe import Source
from open_rs.rows import BadRow, source_rows

FOLDER = "OPEN_RS_BENCHMARKS"

AnswerKind = Literal["integer", "number", "expression"]
ANSWER_KINDS: Mapping[AnswerKind, re.Pattern[str]] = {
    "integer": re.compile(r"\d{1,3}"),  # AIME: 0 to 999
    "number": re.compile(r"-?\d+(\.\d+)?"),
    "expression": re.compile(r".*\S.*", re.DOTALL),
}


@dataclass(frozen=True)
class Benchmark:
    """One row of the table.

    Attributes:
        source: the public data set; its columns are read only from there.
        num_problems: how many it has to hold.
        prompt: the name of the user turn in `prompts.USER_PROMPTS` that the paper's harness used.
        version: raised when problems, golds or ids change.
        row_ids: whether the hub's rows have no id, so that their number stands for it.
        bad_golds: ids whose published gold cannot be graded; left out and counted.
    """

    name: str
    title: str
    source: Source
    num_problems: int
    answer_kind: AnswerKind
    licence: str
    prompt: str = "final_answer"
    version: int = 1
    row_ids: bool = False
    bad_golds: tuple[str, ...] = ()


MAA = "problems of the Mathematical Association of America"
BENCHMARKS: Mapping[str, Benchmark] = {
    one.name: one
    for one in (
        Benchmark(
            name="aime24",
            title="AIME 2024, I and II",
            source=Source(hub="HuggingFaceH4/aime_2024", columns={"source": "url"}),
            num_problems=30,
            answer_kind="integer",
            licence=MAA,
        ),
        Benchmark(
            name="aime25",
            title="AIME 2025, I and II",
            source=Source(hub="yentinglin/aime_2025", config="default", columns={"source": "url"}),
            num_problems=30,
            answer_kind="integer",
            licence=MAA,
        ),
        Benchmark(
            name="math500",
            title="MATH-500",
            source=Source(
                hub="HuggingFaceH4/MATH-500",
                split="test",
                columns={"id": "unique_id", "source": "subject"},
            ),
            num_problems=500,
            answer_kind="expression",
            licence="MIT",
        ),
        Benchmark(
            name="amc23",
            title="AMC 12, 2023",
            source=Source(hub="knoveleng/AMC-23", columns={"source": "url"}),
            num_problems=40,
            answer_kind="number",
            licence=MAA,
        ),
        Benchmark(
            name="minerva",
            title="Minerva, university mathematics and physics",
            source=Source(hub="knoveleng/Minerva-Math", answer_from="boxed"),
            num_problems=272,
            answer_kind="expression",
            licence="not stated",
            row_ids=True,
            bad_golds=("minerva/5", "minerva/27"),
        ),
        Benchmark(
            name="olympiadbench",
            title="OlympiadBench: mathematics, English, text alone, open answers",
            source=Source(hub="knoveleng/OlympiadBench", columns={"problem": "question"}),
            num_problems=675,
            answer_kind="expression",
            licence="Apache-2.0",
            bad_golds=("olympiadbench/1965",),
        ),
        Benchmark(
            name="gsm8k",
            title="GSM8K, test split",
            source=Source(
                hub="openai/gsm8k",
                config="main",
                split="test",
                columns={"problem": "question"},
                answer_from="gsm8k",
            ),
            num_problems=1319,
            answer_kind="number",
            licence="MIT",
            row_ids=True,
        ),
    )
}


def load_benchmark(name_or_path: str) -> list[Problem]:
    """The problems of a benchmark of the table, checked against it, or of a local file."""
    benchmark = BENCHMARKS.get(name_or_path)
    if benchmark is None:
        return _from_file(_known_path(name_or_path))
    file = local_file(benchmark)
    problems = _from_hub(benchmark) if file is None else _from_file(file)
    where = benchmark.source.label if file is None else str(file)
    if len(problems) != benchmark.num_problems:
        raise InputError(
            f"{where}: holds {len(problems)} problems and {benchmark.name} has "
            f"{benchmark.num_problems}; get the whole set, or give the file by its path to use it "
            "as it is"
        )
    if benchmark.answer_kind == "number":  # 2,125 in one copy is 2125 in another
        problems = [replace(one, answer=one.answer.replace(",", "")) for one in problems]
    kind = ANSWER_KINDS[benchmark.answer_kind]
    for one in problems:
        if kind.fullmatch(one.answer) is None:
            raise InputError(
                f"{where}: the answer of {one.id} is {one.answer!r}, and those of {benchmark.name} "
                f"are {benchmark.answer_kind}s; get the file anew"
            )
    return problems


def gradable(name_or_path: str, problems: Sequence[Problem]) -> tuple[list[Problem], list[str]]:
    """(problems whose gold the grader calls right against itself, ids of those left out).

    Only golds that the table knows to be bad may be left out; any other is refused, since every
    completion would be wrong on it.
    """
    benchmark = BENCHMARKS.get(name_or_path)
    known = () if benchmark is None else benchmark.bad_golds
    with Grader() as grader:
        futures = [grader.submit("\\boxed{" + one.answer + "}", one.answer) for one in problems]
        bad = [
            (one, future.result().outcome)
            for one, future in zip(problems, futures, strict=True)
            if not future.result().correct
        ]
    for one, outcome in bad:
        if one.id not in known:
            raise InputError(
                f"{name_or_path}: the answer of {one.id}, {one.answer!r}, does not grade itself as "
                f"correct ({outcome}), so no completion could; mend or remove the row"
            )
    left_out = {one.id for one, _ in bad}
    return [one for one in problems if one.id not in left_out], sorted(left_out)


def local_file(benchmark: Benchmark) -> Path | None:
    """The file of a benchmark in the folder of OPEN_RS_BENCHMARKS; None where there is none."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return None
    names = (benchmark.name, f"{benchmark.name}_{benchmark.source.split}")
    files = [Path(folder) / f"{name}{end}" for name in names for end in (".jsonl", ".jsonl.gz")]
    return next((file for file in files if file.is_file()), None)


def _known_path(text: str) -> Path:
    """`text` as a path, refused where it is neither a path nor a name."""
    path = Path(text)
    if path.exists() or path.name != text or path.suffix:
        return path
    close = difflib.get_close_matches(text, BENCHMARKS, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise InputError(
        f"benchmark {text!r} unknown; {hint}known: {', '.join(BENCHMARKS)}; or give the path of a "
        "file with id, problem and answer, such as mine.jsonl"
    )


def _from_file(path: Path) -> list[Problem]:
    source = Source(path=str(path))
    for where, row in source_rows(source):
        if not isinstance(row, BadRow) and row.get("id") in (None, ""):
            raise InputError(
                f"{where}: id is missing; records are compared by it, so give every problem its "
                'own, such as "id": "mine/1"'
            )
    return load_problems(source)


def _from_hub(benchmark: Benchmark) -> list[Problem]:
    try:
        problems = load_problems(benchmark.source)
    except InputError as error:
        raise InputError(
            f"benchmark {benchmark.name}: {error}; or put {benchmark.name}.jsonl into the folder "
            f"that the environment variable {FOLDER} names"
        ) from error
    return [
        replace(one, id=f"{benchmark.name}/{row if benchmark.row_ids else one.id}")
        for row, one in enumerate(problems)
    ]
