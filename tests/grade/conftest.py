import pytest

from open_rs.grade import Grader


@pytest.fixture(scope="session")
def grader():
    """One worker for all tests of this folder that do nothing to its process."""
    with Grader(workers=1, timeout_s=30.0) as made:
        yield made
