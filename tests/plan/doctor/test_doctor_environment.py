"""One thing of the environment broken at a time: found, and nothing else."""

import locale
import os
import platform
import resource
import sys
import tempfile
import time
import types

import pytest

from open_rs.plan.doctor import environment


@pytest.fixture(autouse=True)
def of_the_process(bench):
    """Without the checks that would work on in a process as broken as this."""
    bench.checks = environment.CHECKS


def install(tmp_path, monkeypatch, name, version, *requires):
    """A package as its metadata shows it, before the one that is really there."""
    folder = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path / "site")


def test_another_python(bench, monkeypatch):
    monkeypatch.setattr(platform, "python_version", lambda: "3.10.4")
    bench.sees("python.version", "fail", "Python is 3.10.4, and >=3.11 is needed")


def test_assertions_off(bench, monkeypatch):
    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"}
    monkeypatch.setattr(sys, "flags", types.SimpleNamespace(**{**flags, "optimize": 1}))
    bench.sees("python.asserts", "warn", "PYTHONOPTIMIZE")


def test_a_package_that_is_not_there(bench, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "open-rs", "0.1.0", "torch", "no-such-package>=1")
    (tmp_path / "site" / "open_rs-0.1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: open-rs\nVersion: 0.1.0\nRequires-Python: >=3.11\n"
        "Requires-Dist: no-such-package>=1\n"
    )
    bench.sees("packages.installed", "fail", "not installed: no-such-package", "pip install")


def test_a_package_out_of_range(bench, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "tomlkit", "0.1")
    bench.sees("packages.versions", "fail", "tomlkit is 0.1, not >=0.13", '"tomlkit>=0.13"')


def test_packages_that_do_not_agree(bench, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "torchvision", "0.20", "torch==2.5.0")
    bench.sees("packages.agree", "warn", "torchvision 0.20 needs torch==2.5.0")


def test_a_package_known_to_break_another(bench, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "antlr4-python3-runtime", "4.7")
    bench.sees("packages.known_bad", "fail", "antlr4-python3-runtime 4.7: the grader's LaTeX")


def test_a_wheel_that_cannot_be_loaded(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # importing it raises ImportError
    found = bench.findings()
    assert found["packages.import"].status == "fail"
    assert "tokenizers cannot be imported" in found["packages.import"].sentence


def test_another_encoding(bench, monkeypatch):
    monkeypatch.setattr(locale, "getpreferredencoding", lambda _: "ANSI_X3.4-1968")
    bench.sees("environment.encoding", "warn", "ANSI_X3.4-1968", "C.UTF-8")


def test_a_clock_that_is_behind(bench, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    bench.sees("environment.clock", "warn", "behind the package's own files")


def test_threads_that_are_no_number(bench, monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "auto")
    bench.sees("environment.threads", "warn", "MKL_NUM_THREADS is 'auto'")


def test_a_variable_that_slows_everything(bench, monkeypatch):
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    bench.sees("environment.slow", "warn", "CUDA_LAUNCH_BLOCKING")


def test_no_place_for_temporary_files(bench, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file" / "no folder"))
    bench.sees("environment.temporary", "fail", "no temporary file can be written", "TMPDIR")


def test_no_compiler_for_what_compiles(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    bench.set("rollout", engine={"type": "vllm"})
    bench.sees("environment.compiler", "fail", "there is no C compiler", "enforce_eager = true")


@pytest.mark.parametrize(
    ("kind", "limit", "check", "words"),
    [
        (resource.RLIMIT_NOFILE, 200, "limits.open_files", "only 200 files"),
        (resource.RLIMIT_AS, 8 * 2**30, "limits.memory", "8.0 GiB of addresses"),
    ],
)
def test_limits_of_the_process(bench, monkeypatch, kind, limit, check, words):
    real = resource.getrlimit
    monkeypatch.setattr(
        resource, "getrlimit", lambda one: (limit, limit) if one == kind else real(one)
    )
    bench.sees(check, "warn", words, "ulimit")


def test_a_umask_that_locks_the_owner_out(bench):
    held = os.umask(0o277)
    try:
        bench.sees("limits.umask", "fail", "the umask is 0277")
    finally:
        os.umask(held)
