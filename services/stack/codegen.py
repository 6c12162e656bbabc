"""Generates gen/ from proto/: stubs, type stubs, the descriptor set, openapi.json; and docker-compose.yml."""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from grpc_tools import protoc

from services.stack import clients, compose
from services.stack.openapi import document
from services.stack.paths import ROOT

PROTO = ROOT / "proto"
GEN = ROOT / "gen"
DESCRIPTORS = "descriptors.binpb"
# The transcoder needs the details' types in its descriptor set, or errors become empty bodies.
ERROR_DETAILS = "google/rpc/error_details.proto"


def write_foreign_descriptors(path: Path) -> None:
    """Writes the descriptors of imports that no installed package carries as .proto files.

    protovalidate carries `buf/validate/validate.proto` as a descriptor only; what it imports goes along.
    """
    from protovalidate._gen.buf.validate import validate_pb

    wanted = (
        descriptor_pb2,
        any_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
    foreign = descriptor_pb2.FileDescriptorSet()
    for module in wanted:
        module.DESCRIPTOR.CopyToProto(foreign.file.add())
    foreign.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    path.write_bytes(foreign.SerializeToString(deterministic=True))


def run_protoc(foreign: Path, out: Path, arguments: list[str], inputs: list[str]) -> None:
    scripts = Path(sysconfig.get_path("scripts"))
    command = [
        "protoc",
        f"--descriptor_set_in={foreign}",
        f"--proto_path={PROTO}",
        f"--proto_path={Path(annotations_pb2.__file__).parents[2]}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        *(argument.format(out=out) for argument in arguments),
        *inputs,
    ]
    if protoc.main(command) != 0:
        raise SystemExit("gen: protoc failed, see the lines above: mend the .proto file it names")


def generate(out: Path) -> None:
    """Writes the whole of gen/ into an empty folder."""
    own = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        foreign = Path(scratch) / "foreign.binpb"
        write_foreign_descriptors(foreign)
        run_protoc(
            foreign,
            out,
            ["--python_out={out}", "--mypy_out=quiet:{out}"],
            [*own, "buf/validate/validate.proto"],
        )
        services = [name for name in own if name.endswith("_service.proto")]
        run_protoc(foreign, out, ["--grpc_python_out={out}", "--mypy_grpc_out=quiet:{out}"], services)
        run_protoc(
            foreign,
            out,
            [f"--descriptor_set_out={{out}}/{DESCRIPTORS}", "--include_imports", "--include_source_info"],
            [*own, ERROR_DETAILS],
        )
    document.write(out / DESCRIPTORS, out / document.FILE)


def differences(fresh: Path, committed: Path) -> list[str]:
    """Names of files that differ between two trees, either way."""
    names = {
        str(path.relative_to(root))
        for root in (fresh, committed)
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(
        name
        for name in names
        if not (fresh / name).is_file()
        or not (committed / name).is_file()
        or not filecmp.cmp(fresh / name, committed / name, shallow=False)
    )


def stale_compose(scratch: Path) -> bool:
    """Whether docker-compose.yml, which lies where people look for it, is not what the topology says."""
    fresh, committed = scratch / compose.FILE, ROOT / compose.FILE
    compose.write(fresh)
    return not committed.is_file() or not filecmp.cmp(fresh, committed, shallow=False)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gen", description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--clients", type=lambda text: text.split(","), metavar="LANGUAGES")
    parser.add_argument("--out", type=Path, metavar="DIR")
    given = parser.parse_args(arguments)
    if (given.clients is None) != (given.out is None) or (given.check and given.clients):
        parser.error("--clients and --out belong together, without --check")
    if given.clients is None:
        return write_own(check=given.check)
    strange = clients.unknown(given.clients)
    if strange:
        parser.error(strange)
    return 0 if clients.write(given.clients, given.out) else 1


def write_own(*, check: bool) -> int:
    """Writes gen/ and docker-compose.yml, or only says how they differ from their sources."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        if check:
            changed = [f"gen/{name}" for name in differences(fresh, GEN)]
            if stale_compose(fresh):
                changed.append(compose.FILE)
            for name in changed:
                print(
                    f"gen: {name} is not what its source says: run ./scripts/gen and commit", file=sys.stderr
                )
            return 1 if changed else 0
        shutil.rmtree(GEN, ignore_errors=True)
        GEN.mkdir()
        shutil.copytree(fresh, GEN, dirs_exist_ok=True, copy_function=shutil.copyfile)
        GEN.chmod(0o755)
        compose.write(ROOT / compose.FILE)
    print(f"gen: wrote {sum(1 for path in GEN.rglob('*') if path.is_file())} files to gen/")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
