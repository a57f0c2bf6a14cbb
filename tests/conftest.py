"""What every test needs: one thread, no network, the project's data where it is present."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: the tests share few cores
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture
def data_dir() -> Path:
    """The folder of benchmarks and training sets; the test is skipped where it is not there."""
    given = os.environ.get("OPEN_RS_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}; set OPEN_RS_DATA to the folder that holds it")
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A recipe may set torch's threads; the next test starts with one again."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real OpenAI-compatible server with the tiny model, started by the first test that asks."""
    from loopback import serve_tiny

    with serve_tiny(tmp_path_factory.mktemp("served")) as served:
        yield served
