"""What is taken out of an archive: files, and only into the folder that was named."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from services.stack.backup import unpack
from services.stack.errors import StackError


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> tarfile.TarFile:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for information, content in members:
            information.size = len(content)
            archive.addfile(information, io.BytesIO(content))
    made.seek(0)
    return tarfile.open(fileobj=made)


def test_files_and_their_folders_are_written(tmp_path: Path) -> None:
    with archive_of((tarfile.TarInfo("files/a/b.txt"), b"hello")) as archive:
        unpack(archive, tmp_path)
    assert (tmp_path / "files/a/b.txt").read_bytes() == b"hello"


@pytest.mark.parametrize("name", ["../outside", "files/../../outside", "/outside"])
def test_a_file_outside_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    with archive_of((tarfile.TarInfo(name), b"x")) as archive, pytest.raises(StackError, match="not a file"):
        unpack(archive, folder)
    assert not (tmp_path / "outside").exists()


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("files/link")
    link.type = tarfile.SYMTYPE
    link.linkname = "../secret"
    with archive_of((link, b"")) as archive, pytest.raises(StackError, match="not a file"):
        unpack(archive, tmp_path)
