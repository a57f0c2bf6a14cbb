"""One writer to a folder: real processes, killed for real, other hosts, systems without locks."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from open_rs.errors import InputError
from open_rs.lock import LOCK, OWNER, life_of, lock_folder, refusal_of, write_owner
from open_rs.runs import RunFolder

HOLDS = (
    "import os, sys\nfrom pathlib import Path\nfrom open_rs.lock import lock_folder\n"
    "with lock_folder(Path(sys.argv[1])):\n"
    "    print(os.getpid(), flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path/run until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "run")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == f"{process.pid}\n"
    yield process
    process.kill()
    process.communicate()


def owner_of(folder):
    return json.loads((folder / OWNER).read_text())


def test_a_second_writer_is_refused_with_the_owner_named(holder, tmp_path):
    run = tmp_path / "run"
    owner = owner_of(run)
    assert (owner["pid"], owner["host"]) == (holder.pid, os.uname().nodename)
    with pytest.raises(InputError) as refused, lock_folder(run):
        pass
    sentence = str(refused.value)
    assert f"process {holder.pid} on {owner['host']}, since {owner['started']}" in sentence
    assert "wait for it, end it, or give another --out" in sentence
    assert owner_of(run) == owner  # whom it refuses leaves all as it was
    holder.communicate("")
    with lock_folder(run):
        assert owner_of(run)["pid"] == os.getpid()


def test_the_lock_holds_without_the_name(holder, tmp_path):
    (tmp_path / "run" / OWNER).unlink()
    with (
        pytest.raises(InputError, match="another process writes there; wait for it"),
        lock_folder(tmp_path / "run"),
    ):
        pass


def test_a_killed_owner_is_recognised_and_its_folder_taken_over_aloud(holder, tmp_path, capsys):
    run = tmp_path / "run"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    left = owner_of(run)
    assert left["pid"] == holder.pid
    with lock_folder(run):
        assert owner_of(run)["pid"] == os.getpid()
    said = capsys.readouterr().err
    assert f"taken over from process {holder.pid} on {left['host']}" in said


def test_an_owner_that_ends_leaves_no_name(tmp_path, capsys):
    with pytest.raises(KeyError), lock_folder(tmp_path / "run"):
        raise KeyError
    assert [file.name for file in (tmp_path / "run").iterdir()] == [LOCK]
    with lock_folder(tmp_path / "run"):
        pass
    assert capsys.readouterr().err == ""


def test_what_another_host_left_is_refused_with_the_cure(tmp_path, capsys):
    with lock_folder(tmp_path):
        ours = owner_of(tmp_path)
    (tmp_path / OWNER).write_text(
        json.dumps({**ours, "host": "another-host", "life": "no process here"})
    )
    os.utime(tmp_path / OWNER, (0, 0))
    heartbeat = RunFolder(tmp_path).heartbeat
    heartbeat.touch()
    now = heartbeat.stat().st_mtime
    os.utime(heartbeat, (now - 7200, now - 7200))
    with pytest.raises(InputError) as refused, lock_folder(tmp_path):
        pass
    assert "on another-host, since" in str(refused.value)
    assert "last sign of life 120 min ago" in str(refused.value)
    assert "make sure that it is gone and give --take-over" in str(refused.value)
    capsys.readouterr()
    with lock_folder(tmp_path, take_over=True):  # the cure
        assert owner_of(tmp_path)["pid"] == os.getpid()
    assert f"taken over from process {ours['pid']} on another-host" in capsys.readouterr().err
    with lock_folder(tmp_path):
        pass


SLURM, AGAIN = {"SLURM_JOB_ID": "7"}, {"SLURM_RESTART_COUNT": "1"}
SKY = {"SKYPILOT_TASK_ID": "sky-managed-1"}


@pytest.mark.parametrize(
    ("then", "now", "taken"),
    [
        (SLURM, SLURM | AGAIN, True),
        (SLURM | AGAIN, SLURM | {"SLURM_RESTART_COUNT": "2"}, True),
        (SLURM, SLURM, False),  # another command of one allocation, on another of its nodes
        (SLURM, {"SLURM_JOB_ID": "8"} | AGAIN, False),
        (SKY, SKY, True),
        (SKY, SKY | {"SKYPILOT_NODE_RANK": "1"}, False),
        ({}, SLURM | AGAIN, False),
        (SKY, {}, False),
    ],
)
def test_a_job_that_its_scheduler_has_started_again_takes_its_own_folder_over(
    tmp_path, monkeypatch, capsys, then, now, taken
):
    def be(job):
        for name in {*SLURM, *AGAIN, *SKY, "SKYPILOT_NODE_RANK"}:
            monkeypatch.delenv(name, raising=False)
        for name, value in job.items():
            monkeypatch.setenv(name, value)

    be(then)
    write_owner(tmp_path)
    lost = owner_of(tmp_path) | {"host": "node3", "life": "of a machine that is gone"}
    (tmp_path / OWNER).write_text(json.dumps(lost))
    be(now)
    assert (refusal_of(tmp_path) is None) == taken
    if taken:
        with lock_folder(tmp_path):
            assert owner_of(tmp_path)["host"] == os.uname().nodename
        assert "on node3, since" in (said := capsys.readouterr().err)
        assert f"{lost['job']} was started again" in said
    else:
        with pytest.raises(InputError, match=r"on node3, since .*--take-over"):
            lock_folder(tmp_path).__enter__()
        assert owner_of(tmp_path) == lost


def test_nobody_takes_over_from_the_living(holder, tmp_path):
    for _ in range(2):
        with (
            pytest.raises(InputError, match=f"process {holder.pid} on .*, writes there; wait"),
            lock_folder(tmp_path / "run", take_over=True),
        ):
            pass
        # who holds the kernel's lock lives, whatever it calls its host
        owner = owner_of(tmp_path / "run") | {"host": "another-host"}
        (tmp_path / "run" / OWNER).write_text(json.dumps(owner))


def test_whose_folder_was_taken_over_leaves_the_new_name_there(tmp_path):
    with lock_folder(tmp_path):
        theirs = {**owner_of(tmp_path), "host": "another-host"}
        (tmp_path / OWNER).write_text(json.dumps(theirs))
    assert owner_of(tmp_path) == theirs


def test_a_name_is_whole_or_absent(tmp_path, monkeypatch):
    """Killed before each of the calls that name the owner; then a file system without links."""

    def killed(*args):
        assert not (tmp_path / OWNER).exists()
        raise KeyboardInterrupt

    for name in ("replace", "link"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, name, killed)
            write_owner(tmp_path)
        assert not list(tmp_path.iterdir())

    def no_links(*args):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    with lock_folder(tmp_path):
        assert owner_of(tmp_path)["pid"] == os.getpid()
        with pytest.raises(InputError, match="writes there"):
            write_owner(tmp_path)


def test_a_link_whose_answer_was_lost_is_ours(tmp_path, monkeypatch):
    real = os.link

    def asked_twice(old, new):
        real(old, new)
        real(old, new)

    monkeypatch.setattr(os, "link", asked_twice)
    with lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"pid": 1}', "\ud800"])
def test_a_torn_name_is_nobody(tmp_path, torn):
    (tmp_path / OWNER).write_text(torn, errors="surrogatepass")
    with lock_folder(tmp_path):
        assert owner_of(tmp_path)["pid"] == os.getpid()


def test_a_later_process_with_the_same_number_is_another_one(tmp_path, capsys):
    with lock_folder(tmp_path):
        ours = owner_of(tmp_path)
    assert ours["life"] == life_of(os.getpid())
    (tmp_path / OWNER).write_text(json.dumps({**ours, "life": "an earlier boot 17"}))
    with lock_folder(tmp_path):
        assert "taken over" in capsys.readouterr().err


def test_life_of_a_process():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    life = life_of(process.pid)
    assert life is not None and life != life_of(os.getpid()) and life == life_of(process.pid)
    process.communicate(b"\n")
    assert life_of(process.pid) is None


# --- a file system without locks ---


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def no_locks(request, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_locks_the_name_keeps_others_out(no_locks, tmp_path):
    with (
        lock_folder(tmp_path),
        pytest.raises(InputError, match=f"process {os.getpid()} on .*, writes there"),
        lock_folder(tmp_path),
    ):
        pass
    with lock_folder(tmp_path):
        pass


def test_without_locks_a_killed_owner_is_recognised_too(no_locks, holder, tmp_path, capsys):
    run = tmp_path / "run"
    (run / LOCK).unlink()  # here the holder had no lock but its name
    with pytest.raises(InputError, match="writes there"), lock_folder(run):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with lock_folder(run):
        assert f"taken over from process {holder.pid}" in capsys.readouterr().err


def test_without_locks_a_torn_name_may_be_somebody(no_locks, tmp_path):
    (tmp_path / OWNER).write_text("{")
    with (
        pytest.raises(InputError, match=r"does not say who writes there; make sure .* --take-over"),
        lock_folder(tmp_path),
    ):
        pass
    with lock_folder(tmp_path, take_over=True):
        assert owner_of(tmp_path)["pid"] == os.getpid()


def test_without_locks_the_later_of_two_at_once_is_refused(tmp_path):
    write_owner(tmp_path)  # both have found no name a moment ago
    with pytest.raises(InputError, match=f"process {os.getpid()} on .*, writes there"):
        write_owner(tmp_path)


# --- the folder ---


def test_a_new_folder_is_private_and_an_old_one_keeps_its_mode(tmp_path):
    old = os.umask(0o022)
    try:
        with lock_folder(tmp_path / "runs" / "one"):
            pass
        (tmp_path / "shared").mkdir(mode=0o755)
        with lock_folder(tmp_path / "shared"):
            pass
    finally:
        os.umask(old)
    modes = [Path(tmp_path, one).stat().st_mode & 0o777 for one in ("runs", "runs/one", "shared")]
    assert modes == [0o755, 0o700, 0o755]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="cannot be written"), lock_folder(folder):
            pass


def test_a_forked_child_does_not_hold_the_lock_of_its_parent(tmp_path):
    go, told = os.pipe(), os.pipe()
    with lock_folder(tmp_path):
        child = os.fork()
        if not child:
            os.write(told[1], b"1")
            os.read(go[0], 1)  # lives on while the parent lets go
            os._exit(0)
        os.read(told[0], 1)
    try:
        descriptor = os.open(tmp_path / LOCK, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError where it does
        os.close(descriptor)
    finally:
        os.write(go[1], b"1")
        os.waitpid(child, 0)
        for end in (*go, *told):
            os.close(end)
