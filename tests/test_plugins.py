"""Plug-ins by name, and the sentence for everything that can be wrong with one."""

import sys

import pytest

from open_rs.errors import InputError
from open_rs.plugins import load_function


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """An empty working directory; modules and search path as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", "") and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def test_a_function_in_the_working_directory(workspace):
    (workspace / "my_rewards.py").write_text("def brevity(rollout, problem):\n    return 0.25\n")
    assert load_function("my_rewards:brevity")(None, None) == 0.25


def test_a_function_in_a_package_and_one_that_is_installed(workspace):
    (workspace / "lab_parts").mkdir()
    (workspace / "lab_parts" / "rewards.py").write_text("class Half:\n    pass\n")
    assert load_function("lab_parts.rewards:Half").__name__ == "Half"
    assert load_function("math:sqrt")(9) == 3


def test_a_file_here_does_not_stand_in_for_an_installed_module(workspace):
    (workspace / "colorsys.py").write_text("def hls_to_rgb():\n    return 'mine'\n")
    sys.modules.pop("colorsys", None)
    assert load_function("colorsys:hls_to_rgb").__code__.co_argcount == 3


@pytest.mark.parametrize(
    "name", ["brevity", "my_rewards.brevity", ":f", "my_rewards:", "a:b:c", "a:b()", "a:b c", ""]
)
def test_names_that_name_no_function(name):
    with pytest.raises(InputError, match=r"does not name a function; write module:function"):
        load_function(name)


def test_module_that_is_nowhere():
    with pytest.raises(InputError, match=r"'no_such_mod:f': no module no_such_mod here.*folder"):
        load_function("no_such_mod:f")
    with pytest.raises(InputError, match=r"no module no_such_mod here"):
        load_function("no_such_mod.inner:f")


def test_the_name_of_a_file_is_not_the_name_of_a_module(workspace):
    (workspace / "my_file.py").write_text("def f():\n    return 1\n")
    with pytest.raises(InputError, match=r"'my_file.py:f': no module my_file.py here"):
        load_function("my_file.py:f")


def test_module_that_needs_another_one(workspace):
    (workspace / "needy.py").write_text("import not_there_at_all\n")
    with pytest.raises(InputError, match=r"needy needs the module not_there_at_all.*install it"):
        load_function("needy:f")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("1 / 0", "importing broken raised ZeroDivisionError: division by zero; mend it"),
        ("def f(:", "importing broken raised SyntaxError"),
        ("from math import nothing", "importing broken raised ImportError"),
        ("import sys; sys.exit('bye')", "importing broken raised SystemExit: bye"),
    ],
)
def test_module_that_raises(workspace, code, sentence):
    (workspace / "broken.py").write_text(code + "\n")
    with pytest.raises(InputError, match=sentence):
        load_function("broken:f")
    (workspace / "broken.py").write_text("def f():\n    return 'mended'\n")
    assert load_function("broken:f")() == "mended"


def test_function_that_is_not_there(workspace):
    (workspace / "parts.py").write_text("def brevity():\n    pass\n\nlimit = 3\n")
    with pytest.raises(InputError, match=r"has no brevty; did you mean parts:brevity\?"):
        load_function("parts:brevty")
    with pytest.raises(InputError, match=r"has no zzz; define it in parts"):
        load_function("parts:zzz")
    with pytest.raises(InputError, match=r"'parts:limit' is not a function but int"):
        load_function("parts:limit")


def test_relative_names_are_refused():
    with pytest.raises(InputError, match=r"'\.parts:f'"):
        load_function(".parts:f")
