"""docs/results.md: what its commands on the paper's tables print is what stands under them."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from open_rs.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(open-rs compare .*?)^```\n```text\n(.*?)^```$", PAGE, re.M | re.S)


def test_the_page_has_its_blocks() -> None:
    assert len(BLOCKS) == 3


@pytest.mark.parametrize(("command", "printed"), BLOCKS)
def test_the_page_shows_what_the_command_prints(
    command: str,
    printed: str,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paper = data_dir.parent / "paper"
    if not paper.is_dir():
        pytest.skip(f"no tables of the paper at {paper}")
    words = shlex.split(command.replace("\\\n", " "))
    words = [str(paper / word[6:]) if word.startswith("paper/") else word for word in words]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out == printed
