"""The run folder: writes that are whole or absent, logs that bear a kill, one recipe per folder."""

import errno
import gzip
import json
import os
import resource
import signal
import stat
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from open_rs import runs
from open_rs.errors import InputError
from open_rs.interrupt import Interrupted
from open_rs.machine import environment
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import (
    Ledger,
    RunFolder,
    append_jsonl,
    different_keys,
    free_bytes,
    log_event,
    open_run,
    read_json,
    read_log,
    sha256,
    truncate_log,
    unwritable,
    write_bytes,
    write_json,
    write_jsonl,
    write_text,
)


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- whole or absent -------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    path = tmp_path / "recipe.json"
    write_text(path, "old")
    monkeypatch.setattr(runs.os, failing, no_space)
    with pytest.raises(InputError, match=r"recipe.json: cannot be written \(No space left"):
        write_text(path, "new and longer")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["recipe.json"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "recipe.json"
    write_text(path, "old")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["recipe.json"]


def test_the_content_is_on_disk_before_the_name_points_to_it(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(runs.os, "fsync", lambda d: (order.append("fsync"), fsync(d))[1])
    monkeypatch.setattr(runs.os, "replace", lambda a, b: (order.append("rename"), replace(a, b))[1])
    write_bytes(tmp_path / "deep" / "er" / "file", b"content")
    assert order == ["fsync", "rename", "fsync"]  # content, name, folder
    assert (tmp_path / "deep" / "er" / "file").read_bytes() == b"content"


@pytest.mark.parametrize("write", [lambda p: write_text(p, "x"), lambda p: append_jsonl(p, {})])
def test_a_file_in_the_place_of_a_folder(tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot be written"):
        write(tmp_path / "file" / "below.jsonl")
    with pytest.raises(InputError, match=r"cannot be written"):
        write(tmp_path)


def test_json_lines_round_trip_and_equal_rows_give_equal_bytes(tmp_path):
    rows = [{"text": "思考\u2028 \\boxed{7}\n", "step": 1, "x": 0.1}, {"step": 2}]
    for name in ("a.jsonl", "a.jsonl.gz"):
        write_jsonl(tmp_path / name, rows)
        assert read_log(tmp_path / name) == rows
    before = (tmp_path / "a.jsonl.gz").read_bytes()
    time_of_second = time.time() + 5  # gzip would store the time
    os.utime(tmp_path / "a.jsonl.gz", (time_of_second, time_of_second))
    write_jsonl(tmp_path / "b.jsonl.gz", rows)
    assert (tmp_path / "b.jsonl.gz").read_bytes() == before
    assert before[4:8] == b"\0\0\0\0"


# --- logs ------------------------------------------------------------------------------------


def test_append_and_read(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    assert read_log(path) == []
    for step in range(3):
        append_jsonl(path, {"step": step, "text": "第 three"})
    assert [row["step"] for row in read_log(path)] == [0, 1, 2]


def test_a_log_torn_at_any_byte_loses_its_last_row_alone(tmp_path):
    """Killed after any number of bytes of the second row: reading never fails, and the next append
    agrees with what was read."""
    path = tmp_path / "events.jsonl"
    first, second = ({"step": k, "text": "思 é \\boxed{1}"} for k in (1, 2))
    append_jsonl(path, first)
    whole = path.stat().st_size
    append_jsonl(path, second)
    content = path.read_bytes()
    for size in range(whole, len(content)):
        path.write_bytes(content[:size])
        read = read_log(path)
        assert read == [first]
        append_jsonl(path, {"step": 3})
        assert read_log(path) == [*read, {"step": 3}]


def test_a_log_torn_in_its_first_row(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"step": 1, "te')
    assert read_log(path) == []
    append_jsonl(path, {"step": 2})
    assert read_log(path) == [{"step": 2}]


def test_a_bad_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"metrics.jsonl, line 2: not valid JSON"):
        read_log(path)
    path.write_bytes(b'{"step": 1}\n{"text": "\xff"}\n')
    with pytest.raises(InputError, match=r"metrics.jsonl, line 2: not valid"):
        read_log(path)


def test_a_damaged_gzip_is_named(tmp_path):
    path = tmp_path / "000001.jsonl.gz"
    whole = gzip.compress(b'{"step": 1}\n' * 500)
    for content in (whole[:-12], b"no gzip", whole[:30] + b"\0\0\0\0" + whole[34:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"000001.jsonl.gz: cannot be read"):
            read_log(path)


def test_a_full_disk_at_append_keeps_the_rows_before(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(runs.Path, "open", no_space)
        with pytest.raises(InputError, match=r"metrics.jsonl: cannot be written .*free space"):
            append_jsonl(path, {"step": 2})
    assert read_log(path) == [{"step": 1}]


def test_truncate_takes_back_what_a_resumed_run_writes_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"name": "header"}, *({"step": step} for step in (0, 1, 2, 2, 3))]
    write_jsonl(path, rows)
    with path.open("a") as file:
        file.write('{"step": 4, "torn')
    truncate_log(path, 2)
    assert read_log(path) == rows[:-1]
    before = path.stat().st_mtime_ns, path.stat().st_ino
    truncate_log(path, 2)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    truncate_log(path, 0)
    assert read_log(path) == rows[:2]
    truncate_log(tmp_path / "absent.jsonl", 5)
    assert not (tmp_path / "absent.jsonl").exists()


def test_events_say_when(tmp_path):
    run = RunFolder(tmp_path)
    log_event(run, "save", 7, folder="checkpoints/000007")
    row = read_log(run.events)[0]
    assert row.pop("time") == pytest.approx(time.time(), abs=60)
    assert row == {"event": "save", "step": 7, "folder": "checkpoints/000007"}


def test_ledger_counts_seconds_and_dollars_of_failures_too(tmp_path, monkeypatch):
    ticks = iter([100.0, 136.0, 200.0, 201.0])
    monkeypatch.setattr(runs.time, "perf_counter", lambda: next(ticks))
    ledger = Ledger(tmp_path / "ledger.jsonl", usd_per_hour=2.5)
    with ledger.phase("rollout", 3) as figures:
        figures["tokens"] = 512
    with pytest.raises(RuntimeError, match="boom"), ledger.phase("update", 3):
        raise RuntimeError("boom")
    # 36 s are a hundredth of an hour: 0.025 dollars
    first, second = read_log(tmp_path / "ledger.jsonl")
    assert first == {
        "phase": "rollout",
        "step": 3,
        "tokens": 512,
        "seconds": 36.0,
        "usd": pytest.approx(0.025),
    }
    assert (second["phase"], second["seconds"]) == ("update", 1.0)


def test_a_full_disk_does_not_hide_why_a_phase_ended(tmp_path, monkeypatch, capsys):
    def full(path, row):
        raise InputError(f"{path}: no space is left")

    monkeypatch.setattr(runs, "append_jsonl", full)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(Interrupted), ledger.phase("update", 3):
        raise Interrupted(signal.SIGTERM)
    assert "no space is left" in capsys.readouterr().err
    with pytest.raises(InputError, match="no space"), ledger.phase("update", 3):
        pass


def test_dollars_of_an_endpoint_come_on_top_of_the_machine(tmp_path, monkeypatch):
    ticks = iter([0.0, 3600.0, 0.0, 1.0])
    monkeypatch.setattr(runs.time, "perf_counter", lambda: next(ticks))
    path = tmp_path / "ledger.jsonl"
    for price in (2.5, None):
        with Ledger(path, price).phase("curate") as figures:
            figures["usd"] = 0.75
    assert [row["usd"] for row in read_log(path)] == [3.25, 0.75]


def test_a_phase_inside_another_is_entered_once(tmp_path, monkeypatch):
    # the outer one from 0 to 10 s, inside it one from 2 to 5 s and one from 6 to 7 s
    clock = iter([0.0, 2.0, 5.0, 6.0, 7.0, 10.0])
    monkeypatch.setattr(runs.time, "perf_counter", lambda: next(clock))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with ledger.phase("update", 1) as update:
        with ledger.phase("rollout", 2):
            pass
        with ledger.phase("rollout", 3):
            pass
    rows = read_log(tmp_path / "ledger.jsonl")
    found = [(row["phase"], row["step"], row["seconds"]) for row in rows]
    assert found == [("rollout", 2, 3.0), ("rollout", 3, 1.0), ("update", 1, 6.0)]
    assert update["seconds"] == 6.0 and ledger.entered == 10.0


def test_lines_of_two_threads_stay_whole(tmp_path):
    def append(name):
        for number in range(300):
            append_jsonl(tmp_path / "log.jsonl", {"from": name, "number": number})

    threads = [threading.Thread(target=append, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read_log(tmp_path / "log.jsonl")
    assert [row["number"] for row in rows if row["from"] == "a"] == list(range(300))
    assert [row["number"] for row in rows if row["from"] == "b"] == list(range(300))


def test_ledger_without_a_price_says_null(tmp_path):
    with Ledger(tmp_path / "ledger.jsonl").phase("curate"):
        pass
    row = json.loads((tmp_path / "ledger.jsonl").read_text())
    assert row["usd"] is None and row["step"] == 0 and row["seconds"] >= 0


# --- disks that are full, file systems that are odd --------------------------------------------


@contextmanager
def files_end_at(size):
    """Inside, the kernel lets no file grow beyond `size` bytes (EFBIG), as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_write_that_does_not_fit_leaves_what_was_there(tmp_path):
    write_json(tmp_path / "plan.json", {"steps": 1})
    append_jsonl(tmp_path / "log.jsonl", {"step": 1})
    with files_end_at(200):
        with pytest.raises(InputError, match=r"plan.json: cannot be written \(File too large\)"):
            write_json(tmp_path / "plan.json", {"steps": "x" * 1000})
        with pytest.raises(InputError, match=r"log.jsonl: cannot be written"):
            append_jsonl(tmp_path / "log.jsonl", {"step": 2, "text": "x" * 1000})
    assert read_json(tmp_path / "plan.json") == {"steps": 1}
    assert (tmp_path / "log.jsonl").stat().st_size == 200  # torn
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1}]
    append_jsonl(tmp_path / "log.jsonl", {"step": 2})
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1}, {"step": 2}]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.jsonl", "plan.json"]


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "No space left on device); free space, then go on"),
        (errno.EDQUOT, "Disk quota exceeded); free space, then go on"),
        (errno.EROFS, "Read-only file system); name a folder that can be written"),
    ],
)
def test_what_cannot_be_written_is_told_with_its_cure(tmp_path, number, cure):
    error = OSError(number, os.strerror(number))
    assert str(unwritable(Path("run"), error)) == f"run: cannot be written ({cure}"


def test_a_rename_whose_answer_was_lost_has_been_done(tmp_path, monkeypatch):
    replace = os.replace

    def answer_lost(old, new):
        replace(old, new)
        raise FileNotFoundError(errno.ENOENT, "asked again, not there any more", str(old))

    def never_done(old, new):
        raise FileNotFoundError(errno.ENOENT, "the folder is gone", str(new))

    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "replace", answer_lost)
    write_text(tmp_path / "a", "new")
    monkeypatch.setattr(os, "replace", never_done)
    with pytest.raises(InputError, match="a: cannot be written"):
        write_text(tmp_path / "a", "newer")
    assert (tmp_path / "a").read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_folders_that_cannot_be_fsynced_are_written_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def of_files_alone(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_alone)
    write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


def test_a_new_run_folder_is_private(tmp_path):
    run = open_run(tmp_path / "runs" / "a", Recipe())
    assert run.path.stat().st_mode & 0o777 == 0o700


# --- the folder ------------------------------------------------------------------------------


def test_names_are_those_of_the_contract(tmp_path):
    run = RunFolder(tmp_path)
    listed = {
        run.recipe: "recipe.json",
        run.environment: "environment.json",
        run.plan: "plan.json",
        run.metrics: "metrics.jsonl",
        run.events: "events.jsonl",
        run.ledger: "ledger.jsonl",
        run.report: "report.html",
        run.curated: "curated",
        run.checkpoint(50): "checkpoints/000050",
        run.rollouts(7): "rollouts/000007.jsonl.gz",
        run.evaluation("test-000000"): "evaluations/test-000000",
    }
    assert {str(path.relative_to(tmp_path)) for path in listed} == set(listed.values())


def test_the_command_line_and_the_diary_are_kept_without_keys(tmp_path, monkeypatch):
    key = "Zq7" * 12
    monkeypatch.setenv("HF_TOKEN", key)
    monkeypatch.setattr(sys, "argv", ["open-rs", "train", f"x={key}", "https://me:pw@host"])
    assert environment("cpu", {}, "")["command"] == [
        *("open-rs", "train", "x=***", "https://***@host")
    ]
    run = RunFolder(tmp_path)
    log_event(run, "undecided", 3, rows=[{"why": f"401: {key}"}])
    (row,) = read_log(run.events)
    assert row["rows"] == [{"why": "401: ***"}] and row["step"] == 3


def test_open_run_keeps_the_resolved_recipe_and_opens_again(tmp_path):
    recipe = recipe_from_dict({"train": {"num_steps": 7}, "rewards": [{"type": "accuracy"}]})
    run = open_run(tmp_path / "runs" / "a", recipe)
    assert recipe_from_dict(read_json(run.recipe)) == recipe
    assert read_json(run.recipe)["loss"]["clip_low"] == 0.2  # defaults included
    assert open_run(tmp_path / "runs" / "a", recipe) == run


def test_open_run_refuses_another_recipe_and_names_the_keys(tmp_path):
    open_run(tmp_path, Recipe()).metrics.write_text("")  # training has started
    before = (tmp_path / "recipe.json").read_bytes()
    other = recipe_from_dict({"train": {"num_steps": 7}, "model": {"path": "x/y"}, "threads": 1})
    with pytest.raises(
        InputError,
        match=r"another recipe \(different: model.path, threads, train.num_steps\).*--out",
    ):
        open_run(tmp_path, other)
    assert (tmp_path / "recipe.json").read_bytes() == before


def test_a_key_that_the_held_recipe_lacks_has_its_default(tmp_path):
    resolved = Recipe().model_dump(mode="json")
    del resolved["threads"]  # whose default is null
    write_json(tmp_path / "recipe.json", resolved)
    for name in ("metrics.jsonl", "plan.json"):
        (tmp_path / name).write_text("")
    run = open_run(tmp_path, Recipe())
    assert run.plan.exists() and "threads" in read_json(run.recipe)
    write_json(tmp_path / "recipe.json", resolved)
    with pytest.raises(InputError, match=r"\(different: threads\)"):
        open_run(tmp_path, recipe_from_dict({"threads": 1}))


def test_open_run_at_a_file(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match=r"a: cannot be written"):
        open_run(tmp_path / "a", Recipe())


def test_different_keys_by_path():
    left = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": 0}
    right = {"a": {"b": 2, "c": [1, 3]}, "e": 0, "f": None}
    assert sorted(different_keys(left, right)) == ["a.b", "a.c", "d", "f"]
    assert list(different_keys(left, left)) == []


def test_read_json_names_the_file(tmp_path):
    with pytest.raises(InputError, match=r"recipe.json: no such file; is this a run folder"):
        read_json(tmp_path / "recipe.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"bad.json: not valid JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(InputError, match=r"cannot be read"):
        read_json(tmp_path)


def test_hash_space_and_environment(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # the test vector of FIPS 180
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == expected
    assert free_bytes(tmp_path / "not" / "yet" / "there") > 0
    told = environment("cpu", {"train": "0f"}, "1e")
    assert told["data_sha256"] == {"train": "0f"} and told["model_sha256"] == "1e"
    assert told["packages"]["open-rs"] and told["python"].count(".") == 2
    json.dumps(told)
