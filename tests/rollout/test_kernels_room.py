"""Where kernels are compiled: a full disk ends the start, and does not change how it samples."""

import tempfile
from pathlib import Path

import pytest

from open_rs.errors import InputError
from open_rs.rollout.kernels import room_to_compile


def test_a_full_disk_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    said = r"No space left on device.*free space.*TMPDIR"
    with pytest.raises(InputError, match=said), room_to_compile():
        pytest.fail("entered without space")


def test_no_temporary_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: object, **settings: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkdtemp", none)
    with pytest.raises(InputError, match="No usable temporary directory"), room_to_compile():
        pytest.fail("entered without a folder")


def test_what_fails_inside_is_not_taken_for_a_full_disk() -> None:
    with pytest.raises(ZeroDivisionError), room_to_compile() as folder:
        assert (Path(folder) / "space").stat().st_size > 0
        1 / 0  # noqa: B018
    assert not Path(folder).exists()
