"""What is committed in gen/ is what proto/ says, and a difference is found."""

from __future__ import annotations

from pathlib import Path

from services.stack.codegen import DESCRIPTORS, GEN, differences, generate


def test_the_same_contract_gives_the_same_files_and_a_difference_is_named(tmp_path: Path) -> None:
    generate(tmp_path)
    assert differences(tmp_path, GEN) == []
    (tmp_path / DESCRIPTORS).write_bytes(b"")
    assert differences(tmp_path, GEN) == [DESCRIPTORS]
