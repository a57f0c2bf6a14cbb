"""docs/method.md: every function it names exists; every number in it is what the code gives."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

METHOD = Path(__file__).parents[2] / "docs" / "method.md"
NAMED = re.compile(r"\bopen_rs(?:\.\w+)*:\w+")


def names() -> list[str]:
    return sorted(set(NAMED.findall(METHOD.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", names())
def test_each_named_function_exists(name: str) -> None:
    module, _, function = name.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_each_section_names_a_function() -> None:
    _, *sections = re.split(r"^#{2,3} ", METHOD.read_text(encoding="utf-8"), flags=re.MULTILINE)
    silent = [section.split("\n")[0] for section in sections if not NAMED.search(section)]
    assert silent == ["The family as parameters"] or silent == []


def test_examples_give_the_printed_numbers() -> None:
    # A fence would be read as expected output.
    text = re.sub(r"^```.*$", "", METHOD.read_text(encoding="utf-8"), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, METHOD.name, str(METHOD), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.REPORT_ONLY_FIRST_FAILURE)
    assert len(test.examples) > 30
    failures: list[str] = []
    runner.run(test, out=failures.append)
    assert not failures, "".join(failures)
