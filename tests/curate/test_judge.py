"""The judge: strict reading, votes, undecided rows, kills, costs; through an engine or a server."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import get_args

import pytest
from curation_stand_ins import Failure, ScriptedEngine, sampler_of
from loopback import Reply, answer, scripted_server

from open_rs.curate import CuratedFolder, curate
from open_rs.curate.judge import STREAM, missing_votes, opinions, read_opinion, verdict_on
from open_rs.curate.stages import Drop, Note
from open_rs.errors import GuardStop, InputError
from open_rs.problems import problem_id
from open_rs.prompts import JUDGE_QUESTIONS
from open_rs.recipe import JudgeFilter, OwnQuestion, recipe_from_dict
from open_rs.rollout.openai_api import request_seed

NAMES = ("quality", "multi_part", "answerable")
FIT = {"quality": True, "multi_part": False, "answerable": True}
CANARY = "sk-canary-77d1e0aa42c9"
PRICES = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0}


def said(**changes):
    return json.dumps(FIT | changes)


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(folder, count):
    rows = [{"problem": f"problem {n}", "answer": str(n)} for n in range(count)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def number_of(problem):
    return int(problem.problem.split()[1])


def judge_recipe(folder, count, *, engine=None, **spec):
    write_rows(folder, count)
    settings = {"type": "judge", **spec} | ({"engine": engine} if engine else {})
    return recipe_from_dict(
        {
            "seed": 3,
            "model": {"path": "scripted/model"},
            "sources": [{"path": str(folder / "rows.jsonl")}],
            "filters": [settings],
        }
    )


def engine_of(server, **changes):
    settings = {"type": "openai", "base_url": server.base_url, "model": server.model}
    return settings | {"max_retries": 0, "api_key_env": "JUDGE_KEY"} | changes


# Reading


@pytest.mark.parametrize(
    "text",
    [
        said(),
        f"\n  {said()}\n",
        f"```json\n{said()}\n```",
        f"```\n{said()}```",
        f"<think>is it {{clear}}?</think>\n\n{said()}",
        f"I think so.</think>{said()}",
    ],
)
def test_an_opinion_is_read(text):
    assert read_opinion(text, NAMES) == FIT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        f"Here it is: {said()}",
        f"{said()} Hope that helps!",
        f"<think>{said()}",
        '{"quality": true, "multi_part": false}',
        said(reason="fine"),
        said(quality="true"),
        said(quality=1),
        said(quality=None),
        '{"quality": true, "quality": false, "multi_part": false, "answerable": true}',
        f"[{said()}]",
        said()[:-1],
        f"{said()}{said()}",
        '{"quality": NaN, "multi_part": false, "answerable": true}',
        "[" * 100_000,
    ],
)
def test_nonsense_is_no_opinion(text):
    assert read_opinion(text, NAMES) is None


# Counting


def spec_of(**changes):
    return JudgeFilter(**{"votes": 3, "retries": 1, **changes})


def test_the_first_try_that_gives_an_opinion_counts_for_its_vote():
    spec = spec_of()  # try t of vote v is sample v + 3 t
    samples = {
        0: {"opinion": FIT},
        1: {"opinion": None},
        4: {"opinion": FIT | {"quality": False}},
        5: {"opinion": FIT},
        3: {"opinion": FIT | {"quality": False}},  # vote 0 has an opinion already
    }
    assert opinions(samples, spec) == [FIT, FIT | {"quality": False}, FIT]
    assert missing_votes(samples, spec) == []
    assert missing_votes({0: {"opinion": FIT}, 1: {"opinion": None}}, spec) == [1, 2]


UNFIT, MANY = FIT | {"quality": False}, FIT | {"multi_part": True}


@pytest.mark.parametrize(
    ("votes", "verdict", "reason"),
    [
        ([FIT, FIT, FIT], None, None),
        ([FIT, FIT, UNFIT], None, None),
        ([FIT, FIT, None], None, None),
        (
            [FIT, MANY, MANY],
            Drop(
                "judged multi_part: yes",
                "quality 3 yes 0 no, multi_part 2 yes 1 no, answerable 3 yes 0 no",
            ),
            None,
        ),
        (
            [UNFIT, UNFIT, None],
            Drop(
                "judged quality: no",
                "quality 0 yes 2 no, multi_part 0 yes 2 no, answerable 2 yes 0 no",
            ),
            None,
        ),
        (
            [FIT, UNFIT, None],  # one to one, and neither is more than half of three
            Drop(
                "judge undecided",
                "quality 1 yes 1 no, multi_part 0 yes 2 no, answerable 2 yes 0 no; "
                "no readable answer",
            ),
            "no readable answer",
        ),
        (
            [FIT, None, None],
            Drop(
                "judge undecided",
                "quality 1 yes 0 no, multi_part 0 yes 1 no, answerable 1 yes 0 no; "
                "no readable answer",
            ),
            "no readable answer",
        ),
    ],
)
def test_an_answer_counts_with_more_than_half_of_the_votes(votes, verdict, reason):
    assert verdict_on(votes, spec_of(), "") == (verdict, reason)


def test_ties_are_undecided_and_may_be_kept():
    spec = spec_of(votes=2, questions=["quality"], undecided="keep")
    votes = [{"quality": True}, {"quality": False}]
    note = Note("judge undecided", "quality 1 yes 1 no; votes on quality are tied")
    assert verdict_on(votes, spec, "") == (note, "votes on quality are tied")


@pytest.mark.parametrize("only", [True, False])
def test_one_vote_of_three_decides_nothing(only):
    verdict, reason = verdict_on(
        [{"quality": only}, None, None], spec_of(questions=["quality"]), ""
    )
    assert verdict.reason == "judge undecided" and reason == "no readable answer"


def test_one_clear_answer_against_the_row_is_enough():
    """quality is tied, multi_part is not."""
    spec = spec_of(votes=2, questions=["quality", "multi_part"])
    votes = [
        {"quality": True, "multi_part": True},
        {"quality": False, "multi_part": True},
    ]
    verdict, reason = verdict_on(votes, spec, "")
    assert verdict.reason == "judged multi_part: yes" and reason is None


def test_own_questions_have_an_answer_that_keeps():
    own = OwnQuestion(name="geometry", ask="Does it need a figure?", keep=False)
    spec = spec_of(votes=1, questions=[], own=[own])
    assert verdict_on([{"geometry": False}], spec, "") == (None, None)
    verdict, _ = verdict_on([{"geometry": True}], spec, "")
    assert verdict == Drop("judged geometry: yes", "geometry 1 yes 0 no")


# Settings


def test_the_questions_of_the_recipe_are_those_of_the_prompts():
    annotation = JudgeFilter.model_fields["questions"].annotation
    assert set(get_args(get_args(annotation)[0])) == set(JUDGE_QUESTIONS)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"questions": []}, "a judge needs questions or own questions"),
        ({"questions": ["quality", "quality"]}, "the question 'quality' occurs twice"),
        ({"questions": ["taste"]}, "filters.0.questions.0 = 'taste'"),
        ({"own": [{"name": "quality", "ask": "?"}]}, "the question 'quality' occurs twice"),
        ({"own": [{"name": "a", "ask": "{problem}?"}]}, "ask should not hold {problem}"),
        ({"own": [{"name": "a b", "ask": "?"}]}, "filters.0.own.0.name = 'a b'"),
        ({"temperature": 0}, "votes = 3 are all alike at temperature 0"),
        ({"engine": {"type": "opnai"}}, 'filters.0.engine: type "opnai" unknown; did you mean'),
        ({"engine": {"type": "openai", "base_url": "http://h", "model": "m", "modle": "x"}},
         "unknown key filters.0.engine.modle; did you mean mode"),
        ({"model": {"pth": "x"}}, "unknown key filters.0.model.pth; did you mean path?"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_sentence(spec, words):
    with pytest.raises(InputError) as caught:
        recipe_from_dict({"filters": [{"type": "judge", **spec}]})
    assert words in str(caught.value)


# Through an engine


def test_rows_are_kept_and_dropped_with_their_reasons(tmp_path):
    """Problem 1 has parts, 2 is bad in two of three votes, 3 in one, 4 is garbled."""

    def script(problem, sample):
        match number_of(problem), sample:
            case 1, _:
                return said(multi_part=True)
            case 2, 0 | 1:
                return said(quality=False)
            case 3, 0:
                return said(quality=False)
            case 4, _:
                return "I am sorry"
        return said()

    engine = ScriptedEngine(script)
    recipe = judge_recipe(tmp_path, 6, retries=1, max_undecided=0.2)
    summary = curate(recipe, tmp_path / "out", open_sampler=sampler_of(engine))
    folder = CuratedFolder(tmp_path / "out")
    assert [row["problem"] for row in rows_of(folder.problems)] == [
        "problem 0", "problem 3", "problem 5",
    ]  # fmt: skip
    assert summary["funnel"][-1]["reasons"] == {
        "judged multi_part: yes": 1,
        "judged quality: no": 1,
        "judge undecided": 1,
    }
    details = [row["detail"] for row in rows_of(folder.manifest)]
    assert details[2] == "quality 1 yes 2 no, multi_part 0 yes 3 no, answerable 3 yes 0 no"
    assert details[4].endswith("answerable 0 yes 0 no; no readable answer")
    # every vote once; those about problem 4 once more, with seeds of their own
    asked = sorted(engine.asked)
    garbled = problem_id("problem 4", "4")
    others = sorted(
        (problem_id(f"problem {n}", str(n)), sample)
        for n in range(6) for sample in range(3)
    )  # fmt: skip
    assert asked == sorted([*others, *((garbled, sample) for sample in (3, 4, 5))])
    assert {(call["seed"], call["step"]) for call in engine.calls} == {(3, STREAM)}
    assert engine.calls[0]["params"].temperature == 0.7
    said_by = {row["said"] for row in rows_of(folder.path / "answers.jsonl") if "said" in row}
    assert said_by == {"I am sorry"}


def test_a_garbled_vote_is_asked_again_and_then_counts(tmp_path):
    engine = ScriptedEngine(lambda problem, sample: said() if sample >= 3 else "hm")
    recipe = judge_recipe(tmp_path, 2)
    assert curate(recipe, tmp_path / "out", open_sampler=sampler_of(engine))["kept"] == 2
    assert sorted({sample for _, sample in engine.asked}) == [0, 1, 2, 3, 4, 5]


def test_an_unreadable_answer_is_an_answer_and_not_asked_for_again(tmp_path):
    engine = ScriptedEngine(lambda problem, sample: "hm" if number_of(problem) else said())
    recipe = judge_recipe(tmp_path, 2, max_undecided=1)
    out = CuratedFolder(tmp_path / "out")
    curate(recipe, out.path, open_sampler=sampler_of(engine))
    assert len(engine.asked) == 3 + 3 * 3  # the first row; the second with two retries a vote
    out.problems.unlink()
    again = ScriptedEngine(lambda problem, sample: said())
    curate(recipe, out.path, open_sampler=sampler_of(again))
    assert again.asked == []


def test_a_judge_that_never_answers_as_asked_stops_the_curation(tmp_path):
    engine = ScriptedEngine(lambda problem, sample: "hm")
    with pytest.raises(GuardStop) as caught:
        curate(judge_recipe(tmp_path, 300), tmp_path / "out", open_sampler=sampler_of(engine))
    assert str(caught.value).startswith(
        "filter judge: 256 of 256 rows are undecided, above max_undecided = 0.1 (256 x no readable "
        "answer)"
    )


def test_failures_of_the_endpoint_are_told_and_asked_for_again(tmp_path):
    def failing(problem, sample):
        return Failure("the server answers 500") if number_of(problem) == 1 else said()

    recipe = judge_recipe(tmp_path, 5, max_undecided=0.2, undecided="keep")
    summary = curate(recipe, tmp_path / "out", open_sampler=sampler_of(ScriptedEngine(failing)))
    folder = CuratedFolder(tmp_path / "out")
    assert summary["kept"] == 5 and summary["funnel"][-1]["noted"] == {"judge undecided": 1}
    assert rows_of(folder.manifest)[1]["note"].endswith("; the server answers 500")
    folder.problems.unlink()
    engine = ScriptedEngine(lambda problem, sample: said())
    curate(recipe, folder.path, open_sampler=sampler_of(engine))
    assert {id_ for id_, _ in engine.asked} == {problem_id("problem 1", "1")}


def test_a_problem_that_is_too_long_for_the_judge_is_undecided(tmp_path):
    engine = ScriptedEngine(lambda problem, sample: said())
    recipe = judge_recipe(tmp_path, 12, max_undecided=0.2)
    # the stand-in's prompt is the problem in bytes: "problem 10" and "problem 11" have ten
    open_sampler = sampler_of(engine, max_prompt_tokens=9)
    summary = curate(recipe, tmp_path / "out", open_sampler=open_sampler)
    assert summary["funnel"][-1]["reasons"] == {"judge undecided": 2}
    manifest = rows_of(CuratedFolder(tmp_path / "out").manifest)
    assert "the question is over 4096 tokens" in manifest[10]["detail"]
    assert len({id_ for id_, _ in engine.asked}) == 10


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"votes": 5}, 2),  # the three that are known count
        ({"undecided": "keep", "max_undecided": 0.5}, 0),
        ({"temperature": 0.5}, 3),
        ({"questions": ["quality"]}, 3),
    ],
)
def test_only_what_changes_the_answers_is_asked_again(tmp_path, changes, asked):
    def script(problem, sample):
        return json.dumps({"quality": True}) if "questions" in changes else said()

    out = CuratedFolder(tmp_path / "out")
    first = ScriptedEngine(lambda problem, sample: said())
    curate(judge_recipe(tmp_path, 2), out.path, open_sampler=recipe_sampler(first))
    out.problems.unlink()
    engine = ScriptedEngine(script)
    curate(judge_recipe(tmp_path, 2, **changes), out.path, open_sampler=recipe_sampler(engine))
    assert len(engine.asked) == 2 * asked


def recipe_sampler(engine):
    """Like `sampler_of`, with the prompt that the judge's recipe asks for."""
    from contextlib import contextmanager

    from curation_stand_ins import byte_prompter

    from open_rs.grade import Grader
    from open_rs.prompts import Prompter
    from open_rs.rollout.graded import GradedSampler

    @contextmanager
    def open_sampler(recipe):
        with Grader() as grader:
            prompter = Prompter(byte_prompter().tokenizer, recipe.prompt)
            yield GradedSampler(engine, grader, prompter)

    return open_sampler


def test_the_embedded_engine_can_judge(tmp_path):
    """The tiny model cannot, and that is told: nothing is dropped in silence."""
    recipe = recipe_from_dict(
        {
            "sources": [{"task": "arithmetic", "count": 3, "levels": [1]}],
            "filters": [
                {"type": "judge", "votes": 1, "retries": 1, "undecided": "keep",
                 "max_undecided": 1, "max_completion_tokens": 16, "max_prompt_tokens": 1000}
            ],
        }
    )  # fmt: skip
    summary = curate(recipe, tmp_path / "out")
    assert summary["kept"] == 3 and summary["funnel"][-1]["noted"] == {"judge undecided": 3}
    rows = rows_of(tmp_path / "out" / "answers.jsonl")
    assert len(rows) == 6 and all(row["opinion"] is None and row["tokens"] > 0 for row in rows)


# Through a server


def test_the_server_is_asked_the_questions_and_for_their_shape(tmp_path):
    with scripted_server(lambda request, before: answer(said(geometry=False))) as server:
        own = [{"name": "geometry", "ask": "Does it need a figure?", "keep": False}]
        recipe = judge_recipe(
            tmp_path, 1, engine=engine_of(server), own=own, votes=2, structured=True
        )
        assert curate(recipe, tmp_path / "out")["kept"] == 1
    first, second = (request.body for request in server.requests)
    user = first["messages"][1]["content"]
    assert "<problem>\nproblem 0\n</problem>" in user
    for name, text in (
        *((name, JUDGE_QUESTIONS[name][0]) for name in NAMES),
        ("geometry", "Does it need a figure?"),
    ):
        assert f'"{name}": {text}\n' in user and f'"{name}": true or false' in user
    schema = first["response_format"]["json_schema"]["schema"]
    assert schema["required"] == [*NAMES, "geometry"] and not schema["additionalProperties"]
    id_ = problem_id("problem 0", "0")
    assert {first["seed"], second["seed"]} == {request_seed(3, STREAM, id_, v) for v in (0, 1)}
    assert first["messages"] == second["messages"]


def run_curate(folder, recipe, *, wait=True):
    """`open-rs curate` in a process of its own; the key of the server in its environment."""
    path = folder / "recipe.json"
    path.write_text(json.dumps(recipe.model_dump(mode="json")), encoding="utf-8")
    command = Path(sys.executable).with_name("open-rs")
    process = subprocess.Popen(
        [command, "curate", path, "--out", folder / "out", "--workers", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JUDGE_KEY": CANARY},
    )
    if wait:
        process.output, process.errors = process.communicate(timeout=120)
    return process


def all_text_below(folder):
    files = [one for one in folder.rglob("*") if one.is_file()]
    return b"".join(one.read_bytes() for one in files).decode("utf-8", "replace")


@pytest.mark.parametrize(
    "instants", [[45], pytest.param([7, 20, 45, 70, 88], marks=pytest.mark.slow)]
)
def test_killed_in_mid_judging_it_goes_on_and_asks_nothing_twice(tmp_path, instants):
    """SIGKILL while these of the 90 questions are under way, the last of them unanswered."""
    kill_at, reached, over = list(instants), threading.Event(), threading.Event()

    def script(request, before):
        if kill_at and before + 1 == kill_at[0]:
            reached.set()
            over.wait(timeout=60)
        return answer(said())

    with scripted_server(script) as server:
        recipe = judge_recipe(tmp_path, 30, engine=engine_of(server, max_concurrency=4))
        while kill_at:
            process = run_curate(tmp_path, recipe, wait=False)
            assert reached.wait(timeout=60)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kill_at.pop(0)
            reached.clear()
            over.set()
            over.clear()
        known = rows_of_whole_lines(tmp_path / "out" / "answers.jsonl")
        asked_before = len(server.requests)
        done = run_curate(tmp_path, recipe)
        assert done.returncode == 0, done.errors
        assert json.loads(done.output)["kept"] == 30
        seeds = [request.body["seed"] for request in server.requests]
    under_way = 4 * len(instants)  # at the kills, at most
    known_seeds = {request_seed(3, STREAM, row["problem_id"], row["sample"]) for row in known}
    assert len(known_seeds) >= instants[-1] - under_way  # nearly all that was asked was kept
    assert not known_seeds & set(seeds[asked_before:])
    wanted = {
        request_seed(3, STREAM, problem_id(f"problem {n}", str(n)), vote)
        for n in range(30) for vote in range(3)
    }  # fmt: skip
    assert set(seeds) == wanted
    assert len(seeds) - len(wanted) <= under_way
    assert CANARY not in all_text_below(tmp_path) + done.output + done.errors


def rows_of_whole_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_the_cap_stops_with_status_3_and_a_higher_one_goes_on(tmp_path):
    """A question costs 7 + 10 * 3 = 37 millionths of a dollar; there are 30 of them."""
    with scripted_server(lambda request, before: answer(said())) as server:
        engine = engine_of(server, max_usd=0.006, max_concurrency=1, **PRICES)
        stopped = run_curate(tmp_path, judge_recipe(tmp_path, 10, engine=engine))
        assert stopped.returncode == 3
        assert "max_usd = 0.006" in stopped.errors and "Traceback" not in stopped.errors
        first = len(server.requests)
        assert 0 < first < 30
        (row,) = rows_of(tmp_path / "out" / "ledger.jsonl")
        assert (row["phase"], row["tokens"]) == ("curate", 3 * first)
        assert row["usd"] == pytest.approx(first * 37e-6)
        with pytest.raises(GuardStop, match=r"max_usd = 0\.006"):  # spent is spent
            curate(judge_recipe(tmp_path, 10, engine=engine), tmp_path / "out")
        assert len(server.requests) == first
        figures, higher = {}, engine | {"max_usd": 0.1}
        curate(judge_recipe(tmp_path, 10, engine=higher), tmp_path / "out", figures=figures)
    assert len(server.requests) == 30  # none twice
    assert figures == {"tokens": 3 * (30 - first), "usd": pytest.approx((30 - first) * 37e-6)}


def test_another_address_or_cap_is_not_another_curation(tmp_path):
    with scripted_server(lambda request, before: answer(said())) as server:
        first = curate(judge_recipe(tmp_path, 2, engine=engine_of(server)), tmp_path / "out")
    # nothing listens there any more, and nothing is asked
    for engine in (engine_of(server), engine_of(server, max_usd=9, timeout_s=1, **PRICES)):
        engine["base_url"] = "http://127.0.0.1:9/v1"
        again = curate(judge_recipe(tmp_path, 2, engine=engine), tmp_path / "out")
        assert again == first
    other = judge_recipe(tmp_path, 2, engine=engine_of(server, model="other/model"))
    with pytest.raises(InputError, match="curated from other inputs"):
        curate(other, tmp_path / "out")


def test_a_server_that_dies_stops_it_and_the_next_start_goes_on(tmp_path):
    def script(request, before):
        return answer(said()) if before < 40 or alive.is_set() else Reply("", 503)

    alive, out = threading.Event(), tmp_path / "out"
    with scripted_server(script) as server:
        recipe = judge_recipe(tmp_path, 30, engine=engine_of(server, max_concurrency=1))
        with pytest.raises(GuardStop, match="the server answers 503"):
            curate(recipe, out)
        assert not (out / "problems.jsonl").exists()
        failed = len(server.requests) - 40
        alive.set()
        assert curate(recipe, out)["kept"] == 30
    assert len(server.requests) == 90 + failed


def test_a_refused_key_is_the_users_mistake(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("JUDGE_KEY", CANARY)
    with (
        scripted_server(lambda request, before: Reply(f'"{CANARY}"', 401)) as server,
        pytest.raises(InputError, match="the key in JUDGE_KEY is refused") as caught,
    ):
        curate(judge_recipe(tmp_path, 3, engine=engine_of(server)), tmp_path / "out")
    shown = "".join(capfd.readouterr()) + str(caught.value)
    assert CANARY not in all_text_below(tmp_path) + shown


def test_asking_a_server_needs_no_torch(tmp_path):
    script = """
import json, sys
from pathlib import Path
from open_rs.curate import curate
from open_rs.recipe import recipe_from_dict
folder = Path(sys.argv[1])
settings = json.loads((folder / "recipe.json").read_text())
assert curate(recipe_from_dict(settings), folder / "out")["kept"] == 3
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""

    def say(request, before):
        return answer(said() if "messages" in request.body and before >= 6 else "\\boxed{1}")

    with scripted_server(say) as server:
        engine = engine_of(server)
        recipe = judge_recipe(tmp_path, 3, engine=engine).model_dump(mode="json")
        rate = {"type": "pass_rate", "num_samples": 2, "above": -1, "below": 2, "engine": engine}
        recipe["filters"].insert(0, rate)
        (tmp_path / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert len(server.requests) == 3 * 2 + 3 * 3


def test_pass_rates_and_a_judge_through_a_real_server(tiny_server, tmp_path):
    """The judge's answers are nonsense from so small a model, which is told of every row."""
    engine = {"type": "openai", "base_url": tiny_server.base_url, "model": tiny_server.model}
    recipe = recipe_from_dict(
        {
            "sources": [{"task": "arithmetic", "count": 8, "levels": [1, 2]}],
            "rollout": {"max_completion_tokens": 32},
            "filters": [
                {"type": "pass_rate", "num_samples": 3, "above": -1, "below": 2,
                 "engine": engine | {"mode": "chat"}},
                {"type": "judge", "votes": 1, "retries": 0, "max_completion_tokens": 16,
                 "undecided": "keep", "max_undecided": 1, "engine": engine},
            ],
        }
    )  # fmt: skip
    figures = {}
    summary = curate(recipe, tmp_path / "out", figures=figures)
    assert summary["kept"] == 8 and summary["funnel"][-1]["noted"] == {"judge undecided": 8}
    rates = rows_of(tmp_path / "out" / "pass_rates.jsonl")
    assert len(rates) == 8 and {row["decided"] for row in rates} == {3}
    assert 0 < sum(row["correct"] for row in rates) < 24
    rows = rows_of(tmp_path / "out" / "answers.jsonl")
    assert len(rows) == 32 and figures == {"tokens": sum(row["tokens"] for row in rows)}
