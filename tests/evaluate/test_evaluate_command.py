"""`open-rs evaluate` with real models: benchmarks, checkpoints, runs, kills, endpoints."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback import Reply, Request, answer, scripted_server

from open_rs import cli
from open_rs.models import load_model, load_tokenizer, model_path
from open_rs.problems import load_problems
from open_rs.recipe import ModelRecipe, Source, load_recipe, recipe_from_dict
from open_rs.runs import RunFolder, read_json, read_log, write_json
from open_rs.tasks import task_rows

CLI = "from open_rs.cli import main; main()"


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs `open-rs ARGS` in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPEN_RS_BENCHMARKS", raising=False)

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["open-rs", *args])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return run


def benchmark_file(path: Path, count: int = 6, **changes: Any) -> Path:
    source = Source(task="arithmetic", split="train", count=count, levels=(0, 1))
    rows = [
        {"id": f"mine/{n}", "problem": row["problem"], "answer": row["answer"]} | changes
        for n, row in enumerate(task_rows(source))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def timeless(folder: Path) -> dict[str, Any]:
    summary = read_json(folder / "summary.json")
    return {key: summary[key] for key in summary.keys() - {"seconds", "tokens_per_s", "name"}}


PLAIN = ("--set", "prompt.user={problem}", "--set", "evaluate.max_completion_tokens=48")


# --- a model -----------------------------------------------------------------------------------


def test_greedy_completions_are_those_of_transformers(command, tmp_path: Path) -> None:
    file = benchmark_file(tmp_path / "mine.jsonl")
    status, out, err = command(
        *("evaluate", "tiny", "--benchmark", str(file), "--num-samples", "1", *PLAIN),
        *("--set", "evaluate.temperature=0", "--set", "evaluate.completion_ids=true"),
        *("--out", "out", "--json"),
    )
    assert status == 0, err
    recipe = ModelRecipe(path="tiny")
    model, tokenizer = load_model(recipe), load_tokenizer(recipe)
    problems = [json.loads(line) for line in file.read_text().splitlines()]
    expected = []
    for problem in problems:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": problem["problem"]}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        ids = model.generate(**prompt, max_new_tokens=48, do_sample=False)[0]
        expected.append(ids[prompt["input_ids"].shape[1] :].tolist())
    rows = rows_of(tmp_path / "out")
    assert [row["completion_ids"] for row in rows] == expected
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]
    assert [row["completion"] for row in rows] == texts
    right = [
        f"\\boxed{{{problem['answer']}}}" in text
        for problem, text in zip(problems, texts, strict=True)
    ]
    assert json.loads(out)["scores"]["pass@1"]["value"] == sum(right) / len(right) > 0


def test_the_paper_s_protocol_is_lowered_to_the_context_aloud(command, tmp_path: Path) -> None:
    file = benchmark_file(tmp_path / "mine.jsonl", 1)
    long = {"id": "mine/long", "problem": "What is 1 + 1? " * 90, "answer": "2"}
    file.write_text(file.read_text() + json.dumps(long) + "\n")
    status, out, err = command("evaluate", "tiny", "--benchmark", str(file), "--num-samples", "2")
    assert status == 0, err
    assert "mine: 1 problems left out, their prompt is over 512 tokens" in err
    assert "tokens, not 32768: the model's context is 1024 and the longest prompt" in err
    summary = read_json(tmp_path / "evaluations" / "tiny" / "mine" / "summary.json")
    sampling = summary["fingerprint"]["sampling"]
    assert (sampling["temperature"], sampling["top_p"]) == (0.6, 0.95)
    assert 512 <= sampling["max_completion_tokens"] < 1024
    assert (summary["num_problems"], summary["too_long"]) == (1, 1)
    assert summary["fingerprint"]["benchmark"] == {"name": "mine", "version": None}
    assert "pass@1" in out and "pass@2" in out and "maj@2" in out and "over samples" in out


def test_several_benchmarks_go_to_folders_of_their_own(command, tmp_path: Path) -> None:
    files = [benchmark_file(tmp_path / f"{name}.jsonl", 1) for name in ("one", "two")]
    named = [word for file in files for word in ("--benchmark", str(file))]
    status, out, err = command("evaluate", "tiny", *named, *PLAIN, "--out", "out", "--json")
    assert status == 0, err
    assert [one["name"] for one in json.loads(out)] == ["one", "two"]
    assert sorted(path.parent.name for path in Path("out").glob("*/summary.json")) == ["one", "two"]
    status, _, err = command("evaluate", "tiny", *named[:2], *named[:2])
    assert status == 2 and "one, one: these go to folders of one name" in err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("tiny",), "tiny: holds no recipe.json, so it is no run"),
        ((), "name a run, a checkpoint or a model to evaluate"),
        (("tiny", "--benchmark", "aime"), "benchmark 'aime' unknown; did you mean aime"),
        (("tiny", "--benchmark", "none.jsonl"), "none.jsonl: no such file"),
        (
            ("tiny", "--benchmark", "bad.jsonl"),
            "bad.jsonl: the answer of mine/0, 'np.sin(3)', does",
        ),
        (("tiny", "--benchmark", "mine.jsonl", "--engine", "trt"), "--engine trt: unknown"),
        (("tiny", "--benchmark", "mine.jsonl", "--engine", "openai"), "base_url: missing"),
        (("tiny", "--benchmark", "mine.jsonl", "--set", "evaluate.top_q=1"), "evaluate.top_q"),
        (("tiny", "--benchmark", "mine.jsonl", "--out", "mine.jsonl"), "cannot be written"),
        (("tiny", "--benchmark", "mine.jsonl", "--select"), "--select chooses among the check"),
        (("--regrade", "nowhere"), "nowhere: holds no summary.json"),
        (("tiny", "--regrade", "nowhere"), "--regrade takes an evaluation's folder and nothing"),
    ],
)
def test_bad_input_is_one_sentence(command, tmp_path: Path, args: tuple[str, ...], told: str):
    benchmark_file(tmp_path / "mine.jsonl", 1)
    benchmark_file(tmp_path / "bad.jsonl", 1, answer="np.sin(3)")
    status, out, err = command("evaluate", *args)
    assert (status, out) == (2, "")
    assert told in err.splitlines()[-1], err
    assert not (tmp_path / "evaluations").exists() and not (tmp_path / "nowhere").exists()


def test_the_folder_of_another_model_is_refused(command, tmp_path: Path) -> None:
    file = benchmark_file(tmp_path / "mine.jsonl", 1)
    words = ("--benchmark", str(file), *PLAIN, "--out", "out")
    assert command("evaluate", "tiny", *words)[0] == 0
    other = shutil.copytree(model_path("tiny"), tmp_path / "other")
    generation = other / "generation_config.json"
    generation.write_text(json.dumps(read_json(generation) | {"max_length": 77}))
    status, _, err = command("evaluate", "other", *words)
    assert status == 2 and "out: already holds another evaluation (different: model_sha256" in err


def test_old_records_are_graded_anew(command, tmp_path: Path) -> None:
    file = benchmark_file(tmp_path / "mine.jsonl", 2)
    assert command("evaluate", "tiny", "--benchmark", str(file), *PLAIN, "--out", "out")[0] == 0
    now, rows = timeless(tmp_path / "out"), rows_of(tmp_path / "out")
    summary = read_json(tmp_path / "out" / "summary.json")
    right = sum(row["correct"] for row in rows)
    assert right > 0
    for row in rows:  # as an older grader would have had it
        row |= {"outcome": "wrong", "correct": False, "policy_version": "0"}
    (tmp_path / "out" / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    summary["fingerprint"]["grader_policy"] = "0"
    summary["fingerprint"]["versions"]["math-verify"] = "0"  # which judged too
    write_json(tmp_path / "out" / "summary.json", summary)
    status, _, err = command("evaluate", "tiny", "--benchmark", str(file), *PLAIN, "--out", "out")
    assert status == 2 and "was graded by policy 0" in err and "--regrade out" in err
    status, out, err = command("evaluate", "--regrade", "out")
    assert status == 0, err
    assert f"{right} x wrong -> correct" in out and "mine/" in out
    assert timeless(tmp_path / "out") == now
    assert read_json(tmp_path / "out" / "summary.policy-0.json") == summary
    assert {row["policy_version"] for row in rows_of(tmp_path / "out")} == {
        now["fingerprint"]["grader_policy"]
    }


# --- kills -------------------------------------------------------------------------------------


def killed_at(process: "subprocess.Popen[bytes]", journal: Path, lines: int) -> bool:
    """SIGKILL once the journal has so many lines; False where the process ended before."""
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        threading.Event().wait(0.002)
    return False


def check_same(out: Path, whole: Path, held: list[bytes]) -> None:
    """The files of the two are equal, and nothing that was journalled was drawn twice."""
    assert (out / "records.jsonl").read_bytes() == (whole / "records.jsonl").read_bytes()
    assert timeless(out) == timeless(whole)
    samples = [row for row in map(json.loads, held) if "sample" in row]
    assert len({(row["problem_id"], row["sample"]) for row in samples}) == len(samples) > 0
    assert not (out / "journal.jsonl").exists()


def words_for(tmp_path: Path) -> list[str]:
    file = benchmark_file(tmp_path / "mine.jsonl", 8)
    words = ["evaluate", "tiny", "--benchmark", str(file), "--num-samples", "6", *PLAIN]
    return [*words, "--set", "rollout.max_slots=4", "--out"]


class Forked:
    """This process once more, in `open-rs WORDS`; enough of a Popen to be killed."""

    def __init__(self, words: list[str]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                silence = os.open(os.devnull, os.O_WRONLY)
                os.dup2(silence, 1)
                os.dup2(silence, 2)
                sys.argv = ["open-rs", *words]
                cli.main()
            finally:
                os._exit(0)

    def poll(self) -> int | None:
        return None if os.waitpid(self.pid, os.WNOHANG) == (0, 0) else 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def kill_at(process: "Forked | subprocess.Popen[bytes]", journal: Path, lines: int) -> list[bytes]:
    """SIGKILL once the journal has so many lines, which are returned; then tear one more."""
    while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, "it ended before it was killed"
        threading.Event().wait(0.001)
    process.kill()
    held = [line for line in journal.read_bytes().splitlines(True) if line.endswith(b"\n")]
    with journal.open("ab") as file:
        file.write(b'{"problem_id": "mine/')
    return held


def test_killed_it_comes_to_the_same_files(command, tmp_path: Path) -> None:
    words, out, whole = words_for(tmp_path), tmp_path / "cut" / "mine", tmp_path / "whole" / "mine"
    assert command(*words, str(whole))[0] == 0
    held: list[bytes] = []
    for lines in (4, 20, 37):
        now = kill_at(Forked([*words, str(out)]), out / "journal.jsonl", lines)
        assert now[: len(held)] == held
        held = now
    status, _, err = command(*words, str(out))
    assert status == 0 and "was killed" in err and "goes on" in err
    check_same(out, whole, held)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_command_killed_at_random_instants(tmp_path: Path, seed: int) -> None:
    words, out, whole = words_for(tmp_path), tmp_path / "cut" / "mine", tmp_path / "whole" / "mine"
    start = [sys.executable, "-c", CLI, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    held: list[bytes] = []
    for lines in sorted(random.Random(seed).sample(range(3, 46), 4)):
        process = subprocess.Popen([*start, str(out)], env=environment, stderr=subprocess.DEVNULL)
        now = kill_at(process, out / "journal.jsonl", lines + 5)  # headers and sessions
        process.wait()
        assert now[: len(held)] == held
        held = now
    for folder in (out, whole):
        subprocess.run([*start, str(folder)], env=environment, check=True, capture_output=True)
    check_same(out, whole, held)


# --- an endpoint -------------------------------------------------------------------------------


def test_an_endpoint_that_dies_in_the_middle_is_gone_on_with(command, tmp_path: Path) -> None:
    file = benchmark_file(tmp_path / "mine.jsonl", 4)
    problems = [json.loads(line) for line in file.read_text().splitlines()]
    golds = {problem["problem"]: problem["answer"] for problem in problems}
    alive = threading.Event()

    def script(request: Request, before: int) -> Reply:
        if before >= 5 and not alive.is_set():
            return Reply("gone", status=503)
        asked = request.body["messages"][-1]["content"]
        return answer(f"\\boxed{{{golds[asked]}}}")

    with scripted_server(script) as server:
        engine = f'rollout.engine={{type="openai", base_url="{server.base_url}", model="some/model"'
        engine += ', mode="chat", max_concurrency=2, max_retries=0'
        engine += ", usd_per_million_prompt_tokens=10.0, usd_per_million_completion_tokens=100.0}"
        words = ("evaluate", "some/model", "--benchmark", str(file), "--num-samples", "3")
        words += (*PLAIN, "--set", engine, "--out", "out")
        status, _, err = command(*words)
        assert status == 3, err
        assert not (tmp_path / "out" / "summary.json").exists()
        alive.set()
        status, out, err = command(*words)
        assert status == 0, err
    assert "goes on, 5 of 12 samples are there" in err and "pass@1   1.000" in out
    asked = [request.body["messages"][-1]["content"] for request in server.requests]
    seeds = [request.body["seed"] for request in server.requests]
    answered = list(zip(asked, seeds, strict=True))[:5]
    assert not set(answered) & set(list(zip(asked, seeds, strict=True))[-7:])
    summary = read_json(tmp_path / "out" / "summary.json")
    # 12 answers of 7 prompt and 3 completion tokens: 12 (70 + 300) / 1e6 dollars
    assert summary["usd"] == pytest.approx(0.00444)
    assert summary["mean_tokens"] == 3 and summary["undecided_frac"] == 0
    assert summary["fingerprint"]["engine"] == "openai" and summary["model"] == "some/model"


def test_an_endpoint_needs_no_torch(tmp_path: Path) -> None:
    file = benchmark_file(tmp_path / "mine.jsonl", 1)
    code = "import sys\nfrom open_rs.cli import main\ntry: main()\n"
    code += "except SystemExit as end: sys.exit(end.code or 10 * ('torch' in sys.modules))"
    with scripted_server(lambda request, before: answer("\\boxed{1}")) as server:
        words = ["evaluate", "some/model", "--benchmark", str(file), "--engine", "openai"]
        words += ["--set", f"rollout.engine.base_url={server.base_url}"]
        words += ["--set", "rollout.engine.mode=chat", "--out", str(tmp_path / "out")]
        done = subprocess.run([sys.executable, "-c", code, *words], check=False)
    assert done.returncode == 0
    assert len(server.requests) == 4 and server.requests[0].body["max_completion_tokens"] == 32768


def test_a_file_does_not_take_the_name_of_a_run_s_own_set(command, run: RunFolder) -> None:
    file = benchmark_file(run.path.parent / "validation.jsonl", 1)
    assert command("evaluate", str(run.checkpoint(20)), "--benchmark", str(file))[0] == 0
    assert (run.evaluation("file-validation-000020") / "summary.json").is_file()


def test_a_part_of_a_benchmark_does_not_bear_its_name(command, tmp_path: Path) -> None:
    file = benchmark_file(tmp_path / "aime24.jsonl", 1)
    assert command("evaluate", "tiny", "--benchmark", str(file), *PLAIN)[0] == 0
    summary = read_json(Path("evaluations/tiny/file-aime24/summary.json"))
    assert summary["fingerprint"]["benchmark"] == {"name": "file-aime24", "version": None}


# --- a checkpoint, a run -----------------------------------------------------------------------

RECIPE = {
    "name": "small",
    "prompt": {"system": "open_rs"},
    "data": {
        "validation": {"task": "arithmetic", "split": "validation", "count": 3, "levels": [0]},
        "test": {"task": "arithmetic", "split": "test", "count": 4, "levels": [0]},
    },
    "rollout": {"max_completion_tokens": 40},
    "evaluate": {"num_samples": 2, "validation_samples": 2},
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with two checkpoints, both of the start's weights, and no scores."""
    run = RunFolder(tmp_path / "run")
    write_json(run.recipe, recipe_from_dict(RECIPE).model_dump(mode="json"))
    for step in (10, 20):
        shutil.copytree(model_path("tiny"), run.checkpoint(step))
    return run


def test_a_checkpoint_is_scored_by_the_recipe_of_its_run(command, run: RunFolder) -> None:
    file = benchmark_file(run.path.parent / "mine.jsonl", 2)
    status, _, err = command("evaluate", str(run.checkpoint(20)), "--benchmark", str(file))
    assert status == 0, err
    assert "mine: used once, for the checkpoint of step 20." in page(run)
    summary = read_json(run.evaluation("mine-000020") / "summary.json")
    assert (summary["step"], summary["num_samples"]) == (20, 2)
    assert summary["fingerprint"]["sampling"]["max_completion_tokens"] == 40
    assert summary["fingerprint"]["prompt"] == summary["training_prompt"]
    uses = read_log(run.evaluation("test_uses.jsonl"))
    assert [(use["step"], use["set"]) for use in uses] == [(20, "mine")]
    assert uses[0]["problems"] == summary["fingerprint"]["problems"]
    *_, spent, idle = read_log(run.ledger)
    assert spent["phase"] == "evaluate" and spent["tokens"] == round(4 * summary["mean_tokens"])
    assert idle["phase"] == "idle" and idle["start"] == spent["start"]
    # Once more: the same use. Another checkpoint on the same problems: told aloud.
    command("evaluate", str(run.checkpoint(20)), "--benchmark", str(file))
    assert len(read_log(run.evaluation("test_uses.jsonl"))) == 1
    _, _, err = command("evaluate", str(run.checkpoint(10)), "--benchmark", str(file))
    assert "mine: these problems were used before, for the checkpoint of step 20" in err
    text = page(run)
    assert "mine: scored for the checkpoints of steps 10, 20." in text
    assert "of 2 that do not differ the best seems up to" in text


def test_another_prompt_than_in_training_is_said(command, run: RunFolder) -> None:
    file = benchmark_file(run.path.parent / "mine.jsonl", 1)
    words = ("evaluate", str(run.checkpoint(20)), "--benchmark", str(file))
    status, _, err = command(*words, "--set", "prompt.system=")
    assert status == 0 and "the prompt is not the one of training" in err
    summary = read_json(run.evaluation("mine-000020") / "summary.json")
    assert summary["training_prompt"] != summary["fingerprint"]["prompt"]
    assert "mine-000020: the prompt was not the one of training" in page(run)


def test_what_chose_or_taught_is_not_held_out(command, run: RunFolder) -> None:
    # The same words as a validation problem, in another file under another id.
    recipe = load_recipe(run.recipe)
    assert recipe.data.validation is not None
    seen = load_problems(recipe.data.validation)[0]
    row = {"id": "else/0", "problem": f"  {seen.problem.upper()}", "answer": seen.answer}
    file = benchmark_file(run.path.parent / "mine.jsonl", 2)
    fresh = file.read_text()
    file.write_text(fresh + json.dumps(row) + "\n")
    words = ("evaluate", str(run.path), "--select", "--benchmark", str(file))
    status, _, err = command(*words)
    assert status == 2 and "mine: 1 of 3 problems stand in data.validation too" in err
    assert not run.evaluation("test_uses.jsonl").exists()
    # A training problem; curated problems are what a run without data.train was trained on.
    run.curated.mkdir()
    (run.curated / "problems.jsonl").write_text(fresh.splitlines()[0] + "\n")
    file.write_text(fresh)
    status, _, err = command(*words)
    assert status == 2 and "mine: 1 of 2 problems stand in data.train too" in err
    shutil.rmtree(run.curated)
    status, _, err = command(*words)
    assert status == 0 and "training problems cannot be read" in err


def test_scoring_a_checkpoint_anew_is_told(command, run: RunFolder) -> None:
    file = benchmark_file(run.path.parent / "mine.jsonl", 1)
    words = ("--benchmark", str(file), "--num-samples", "1")
    assert command("evaluate", str(run.checkpoint(20)), *words)[0] == 0
    again = ("--set", "evaluate.seed=5", "--out", str(run.path.parent / "again"))
    _, _, err = command("evaluate", str(run.checkpoint(20)), *words, *again)
    assert "mine: these problems were used before, for the checkpoint of step 20" in err
    status, out, _ = command("evaluate", str(run.path), "--select", *words)
    assert status == 0
    assert "these problems were scored for the checkpoints of steps 10, 20: the best of" in out


def page(run: RunFolder) -> str:
    from open_rs.report import build_report

    return build_report(run).read_text(encoding="utf-8")


def test_select_scores_all_on_validation_and_the_picked_one_on_test(
    command, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = command("evaluate", str(run.path))
    assert status == 2 and "no checkpoint with a validation score" in err
    status, out, err = command("evaluate", str(run.path), "--select", "--json")
    assert status == 0, err
    made = sorted(path.parent.name for path in run.evaluation("").glob("*/summary.json"))
    # both checkpoints hold the same weights: the earliest of equals
    assert made == ["test-000000", "test-000010", "validation-000010", "validation-000020"]
    comparison = json.loads(out)
    assert comparison == read_json(run.evaluation("comparison.json"))
    assert comparison["selection"]["step"] == 10 and comparison["difference"]["value"] == 0
    assert [row["step"] for row in read_log(run.evaluation("test_uses.jsonl"))] == [0, 10]
    # Again: no model is loaded, no event is logged, nothing is used anew.
    events, uses = run.events.read_bytes(), run.evaluation("test_uses.jsonl").read_bytes()
    monkeypatch.setattr("open_rs.models.load_model", None)
    for words in ((), ("--select",)):
        status, out, err = command("evaluate", str(run.path), *words, "--json")
        assert status == 0 and json.loads(out) == comparison, err
    assert run.events.read_bytes() == events
    assert run.evaluation("test_uses.jsonl").read_bytes() == uses


def test_a_run_is_scored_on_benchmarks(command, run: RunFolder) -> None:
    files = [benchmark_file(run.path.parent / f"{name}.jsonl", 2) for name in ("one", "two")]
    words = ("evaluate", str(run.path), "--select")
    for file in files:
        words += ("--benchmark", str(file))
    status, out, err = command(*words, "--num-samples", "1", "--json")
    assert status == 0, err
    assert [one["after"] for one in json.loads(out)] == ["one-000010", "two-000010"]
    assert {one["verdict"] for one in json.loads(out)} == {"not distinguishable from noise"}
    second = read_json(run.evaluation("comparison-two.json"))
    assert (second["num_samples"], second["family"]["comparisons"]) == (1, 2)
    assert second["p_adjusted"] == 1.0
    assert not run.evaluation("test-000010").exists()
    status, out, _ = command(*words, "--num-samples", "1")
    for name in ("one", "two"):
        assert f"before: {name}-000000, after: {name}-000010\n" in out
    assert out.count("among the family 1\n") == 2
    status, _, err = command("evaluate", str(run.path), "--num-samples", "1")
    assert status == 2 and "go with --benchmark" in err
    engine = 'rollout.engine={type="openai", base_url="http://localhost:1/v1", model="m"}'
    status, _, err = command(*words, "--set", engine)
    assert status == 2 and "base and checkpoint are sampled in this process" in err
