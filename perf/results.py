"""Where a measurement goes: a text for a person, and its numbers for `plots.py`."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="a file for the text")
    parser.add_argument("--json", type=Path, help="a file for the numbers")


def write(given: argparse.Namespace, text: str, facts: Any) -> None:
    """Into the files that were named; `facts` are plain JSON values."""
    for path, content in ((given.out, text), (given.json, json.dumps(facts) + "\n")):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
