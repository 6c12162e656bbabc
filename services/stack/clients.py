"""Writes clients of the public services for apps in other languages, by the plugins of buf.gen.yaml."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pb2

from services.stack.paths import ROOT
from services.stack.topology import SERVICES

TEMPLATE = ROOT / "buf.gen.yaml"
DESCRIPTORS = ROOT / "gen" / "descriptors.binpb"
# How each program is had.
INSTALL = {
    "protoc-gen-go": "go install google.golang.org/protobuf/cmd/protoc-gen-go@latest",
    "protoc-gen-go-grpc": "go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@latest",
    "protoc-gen-es": "npm install @bufbuild/protoc-gen-es, with node_modules/.bin on the PATH",
    "protoc": "install protobuf: brew install protobuf, or apt install protobuf-compiler",
    "protoc-gen-grpc-java": "brew install protoc-gen-grpc-java, or from Maven Central: io.grpc",
    "protoc-gen-grpc-kotlin": "from Maven Central: io.grpc, a jar, started by a script of this name",
    "protoc-gen-swift": "brew install swift-protobuf",
    "protoc-gen-grpc-swift-2": "brew install protoc-gen-grpc-swift",
}
# What reads the details of an error; languages whose imports are generated along need it, too.
ERROR_DETAILS = "google/rpc/error_details.proto"


def languages(template: Path = TEMPLATE) -> dict[str, list[dict[str, Any]]]:
    """Plugins by language."""
    found: dict[str, list[dict[str, Any]]] = {}
    for plugin in yaml.safe_load(template.read_text())["plugins"]:
        found.setdefault(plugin["out"], []).append(plugin)
    return found


def program_of(plugin: dict[str, Any]) -> str:
    """What must be installed for a plugin."""
    given = plugin.get("local") or plugin.get("protoc_path") or "protoc"
    return str(given if isinstance(given, str) else given[0])


def public_files(descriptors: Path = DESCRIPTORS) -> list[str]:
    """The files that say what apps may call, with all of ours that they import, and the reasons of errors."""
    found = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file
    files = {file.name: file for file in found}
    public = {name for service in SERVICES.values() for name in service.public}
    packages = {"sampan.common.v1", *(name.rpartition(".")[0] for name in public)}
    wanted = [
        file.name
        for file in files.values()
        if any(f"{file.package}.{service.name}" in public for service in file.service)
        or (file.package in packages and file.name.endswith("/error_reason.proto"))
    ]
    for name in wanted:
        imported = files[name].dependency
        wanted += [one for one in imported if _is_ours(one) and one not in wanted]
    return sorted(wanted)


def write(chosen: Iterable[str], out: Path, template: Path = TEMPLATE) -> bool:
    """Writes a folder for each language; says on stderr what cannot be written and why. Whether all were."""
    known = languages(template)
    done = [_write_one(language, known[language], out, template) for language in chosen]
    return all(done)


def unknown(chosen: Collection[str], template: Path = TEMPLATE) -> str:
    """What is wrong with a choice, in words; empty when nothing is."""
    known = languages(template)
    strange = [one for one in chosen if one not in known]
    return f"no such language: {', '.join(strange)}; there are {', '.join(sorted(known))}" if strange else ""


def _write_one(language: str, plugins: list[dict[str, Any]], out: Path, template: Path) -> bool:
    missing = dict.fromkeys(program for program in map(program_of, plugins) if shutil.which(program) is None)
    for program in missing:
        hint = INSTALL.get(program, "put it on the PATH")
        print(f"gen: {language}: {program} is not installed: {hint}", file=sys.stderr)
    if missing:
        return False
    only = {**yaml.safe_load(template.read_text()), "plugins": plugins}
    files = public_files()
    if any(plugin.get("include_imports") for plugin in plugins):
        files.append(ERROR_DETAILS)
    buf = Path(sysconfig.get_path("scripts")) / "buf"
    command = [str(buf), "generate", str(DESCRIPTORS), "--template", json.dumps(only), "--output", str(out)]
    for name in files:
        command += ["--path", name]
    if subprocess.run(command, check=False).returncode != 0:
        print(f"gen: {language}: a plugin failed, see the lines above", file=sys.stderr)
        return False
    folder = out / language
    print(f"gen: wrote {sum(1 for path in folder.rglob('*') if path.is_file())} files to {folder}")
    return True


def _is_ours(name: str) -> bool:
    return name.startswith("sampan/") and not name.startswith("sampan/options/")
