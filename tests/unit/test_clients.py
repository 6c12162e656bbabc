"""Clients for other languages: what is generated, and what is said when a plugin is not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from services.stack import clients, codegen

# A plugin that writes the name of each file it is asked for, and what the file imports.
PLUGIN = """#!{python}
import sys
from google.protobuf.compiler import plugin_pb2
request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
files = {{file.name: file for file in request.proto_file}}
answer = plugin_pb2.CodeGeneratorResponse(supported_features=1)
for name in request.file_to_generate:
    answer.file.add(name=name + ".txt", content=" ".join(files[name].dependency))
sys.stdout.buffer.write(answer.SerializeToString())
"""
TEMPLATE = """
version: v2
plugins:
  - local: protoc-gen-absent
    out: absent
  - local: protoc-gen-fake
    out: fake
    include_imports: true
    exclude_types: [google.api.http, sampan.options.v1.policy, buf.validate.field, buf.validate.message,
      buf.validate.oneof]
"""


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One language whose plugin is installed, and one whose is not."""
    programs = tmp_path / "bin"
    programs.mkdir()
    plugin = programs / "protoc-gen-fake"
    plugin.write_text(PLUGIN.format(python=sys.executable))
    plugin.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    made = tmp_path / "buf.gen.yaml"
    made.write_text(TEMPLATE)
    return made


def test_what_apps_may_call_is_generated_and_nothing_else(template: Path, tmp_path: Path) -> None:
    assert clients.write(["fake"], tmp_path, template)
    folder = tmp_path / "fake"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.txt")}
    ours = {name for name in names if name.startswith("sampan/")}
    assert {"sampan/identity/v1/identity_service.proto.txt", "sampan/profile/v1/profile.proto.txt"} <= ours
    assert not [name for name in ours if "internal" in name or "events" in name or "probe" in name]
    assert not [name for name in ours if name.startswith("sampan/options/")]
    assert "google/rpc/error_details.proto.txt" in names
    # Rules and policies are not needed, so neither are their files.
    service = (folder / "sampan/identity/v1/identity_service.proto.txt").read_text()
    assert "buf/validate" not in service
    assert "sampan/options" not in service


def test_a_missing_plugin_is_named_and_the_other_languages_are_written(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not clients.write(["absent", "fake"], tmp_path, template)
    assert "gen: absent: protoc-gen-absent is not installed" in capfd.readouterr().err
    assert not (tmp_path / "absent").exists()
    assert (tmp_path / "fake").is_dir()


def test_of_each_language_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert codegen.main(["--clients", "kotlin,swift,go,typescript", "--out", str(tmp_path / "out")]) == 1
    said = capfd.readouterr().err
    assert not (tmp_path / "out").exists()
    for plugins in clients.languages().values():
        for plugin in plugins:
            program = clients.program_of(plugin)
            assert f"{program} is not installed: {clients.INSTALL[program]}" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--clients", "cobol", "--out", "x"],
        ["--clients", "go"],
        ["--out", "x"],
        ["--check", "--clients", "go"],
    ],
)
def test_what_is_wrongly_asked_for_ends_with_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        codegen.main(arguments)
    assert raised.value.code == 2
