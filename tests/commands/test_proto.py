"""``retrieval proto``: what it writes is the whole contract, and compiles as it is."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.protobuf import descriptor_pb2

from retrieval.commands import proto as command
from retrieval.commands.cli import cli, main
from retrieval.indexer_v1 import ingest_service_pb2
from retrieval.v1 import collection_pb2, search_service_pb2

ROOT = Path(__file__).parents[2] / "proto"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contract") / "a" / "proto"
    done = CliRunner().invoke(cli, ["proto", str(folder)])
    assert done.exit_code == 0, done.output
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.proto"))]
    assert sorted(done.stdout.split()) == sorted(str(folder / name) for name in names)
    assert f"wrote {len(names)} files" in done.stderr
    return folder


def test_all_files_are_written(written: Path) -> None:
    ours = {path.relative_to(ROOT) for path in ROOT.rglob("*.proto")}
    there = {path.relative_to(written) for path in written.rglob("*.proto")}
    assert len(ours) >= 8
    assert ours < there
    for name in ours:
        assert (written / name).read_bytes() == (ROOT / name).read_bytes()
    assert {path.as_posix() for path in there - ours} == {
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
    }


def test_what_is_written_compiles_by_itself(written: Path, tmp_path: Path) -> None:
    """As ``python -m grpc_tools.protoc``, which brings google/protobuf along as every protoc."""
    files = sorted(path.relative_to(written).as_posix() for path in written.rglob("*.proto"))
    result = tmp_path / "set.pb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{written}", "--python_out=."]
    command += ["--grpc_python_out=.", f"--descriptor_set_out={result}", *files]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "retrieval" / "v1" / "search_service_pb2_grpc.py").exists()
    made = descriptor_pb2.FileDescriptorSet.FromString(result.read_bytes())
    by_name = {file.name: file for file in made.file}
    for stub in (search_service_pb2, ingest_service_pb2, collection_pb2):
        expected = descriptor_pb2.FileDescriptorProto()
        stub.DESCRIPTOR.CopyToProto(expected)
        found = by_name[stub.DESCRIPTOR.name]
        assert [one.name for one in found.message_type] == [
            one.name for one in expected.message_type
        ]
        package = found.package.removesuffix(".v1")
        assert found.options.go_package == f"gteretrieval/{package}/v1;{package}v1"
        assert found.options.java_package == f"gteretrieval.{package}.v1"
        assert found.options.java_multiple_files


def test_every_file_names_its_packages() -> None:
    for path in ROOT.rglob("*.proto"):
        text = path.read_text(encoding="utf-8")
        package = path.relative_to(ROOT).parts[0]
        assert f'option go_package = "gteretrieval/{package}/v1;{package}v1";' in text
        assert "option java_multiple_files = true;" in text
        assert f'option java_package = "gteretrieval.{package}.v1";' in text


def test_files_are_replaced(written: Path) -> None:
    file = written / "retrieval" / "v1" / "vector.proto"
    file.write_text("old")
    assert CliRunner().invoke(cli, ["proto", str(written)]).exit_code == 0
    assert file.read_bytes() == (ROOT / "retrieval" / "v1" / "vector.proto").read_bytes()


def test_an_installed_wheel_has_its_own(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_SOURCES", (tmp_path / "none", written))
    assert command.contract_files()["retrieval/v1/vector.proto"].is_relative_to(written)


def test_a_folder_that_can_not_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "retrieval").write_text("a file")
    assert main(["proto", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "can't write" in error
    assert main(["proto"]) == 2
