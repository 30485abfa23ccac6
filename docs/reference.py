"""The generated parts of these pages, which each page calls through cog.

``make docs`` refreshes the pages, and ``make docs-check`` fails if one is not current.
"""

import asyncio
import contextlib
import io
import json
import os
import tempfile
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from indexer.commands.cli import cli as indexer_cli
from retrieval import errors
from retrieval.commands.cli import cli as retrieval_cli
from retrieval.domain.search_options import MAX_OFFSET, OPTIONS, Option, SearchOptions
from retrieval.encoding.model_cards import MODEL_CARDS, REMARKS
from retrieval.encoding.model_folders import FETCHED_FILES
from retrieval.gateway import problems
from retrieval.gateway.app import create_api
from retrieval.gateway.config import GatewayConfig
from retrieval.gateway.mcp.tools import TOOLS
from retrieval.gateway.upstream import Upstream
from retrieval.search import (
    MAX_ARRANGED,
    MAX_K,
    MAX_QUERY_CHARS,
)
from retrieval.service.config import LIMIT_OPTIONS, Limits, ServiceConfig
from retrieval.service.engine import MAX_STREAM_LIMIT
from retrieval.service.grpc_api import status

ROOT = Path(__file__).resolve().parent.parent
PROTO_ROOT = ROOT / "proto"
PROGRAMS = {"indexer": indexer_cli, "retrieval": retrieval_cli}
WIDTH = 80

_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6  # field numbers in FileDescriptorProto
_MESSAGE_FIELD = _ENUM_VALUE = _SERVICE_METHOD = 2  # in the descriptors of each
_SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in descriptor_pb2.FieldDescriptorProto.Type.items()
}


def models_table() -> str:
    """Return the registry as a Markdown table."""
    rows = [
        "| name | hub id | dimension | max tokens | pooling | weights | licence | languages |",
        "|---|---|--:|--:|---|--:|---|---|",
    ]
    for card in MODEL_CARDS.values():
        note = f" ({REMARKS[card.name]})" if card.name in REMARKS else ""
        hub_id = f"`{card.hub_id}`" if card.hub_id else "none: in this package"
        rows.append(
            f"| `{card.name}`{note} | {hub_id} | {card.dim} | {card.max_tokens} "
            f"| {card.pooling} | {card.parameters / 1e6:.0f} M | {card.licence} "
            f"| {card.languages} |"
        )
    return "\n".join(rows)


def dimensions_table() -> str:
    """Return the models whose vectors can be cut, as a Markdown table."""
    rows = ["| model | dimensions |", "|---|---|"]
    for card in MODEL_CARDS.values():
        if card.dimensions:
            lengths = ", ".join(map(str, (card.dim, *sorted(card.dimensions, reverse=True))))
            rows.append(f"| `{card.name}` | {lengths} |")
    return "\n".join(rows)


def prompts_table() -> str:
    """Return the registry's query prompts as a Markdown table."""
    rows = ["| model | query prompt |", "|---|---|"]
    for card in MODEL_CARDS.values():
        prompt = f"`{card.query_prompt}`".replace("\n", "⏎") if card.query_prompt else "none"
        rows.append(f"| `{card.name}` | {prompt} |")
    return "\n".join(rows)


def import_layers() -> str:
    """Return the layers of the packages, one line a package, as import-linter proves them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    lines = [
        f"{contract['containers'][0]}: " + " → ".join(contract["layers"])
        for contract in contracts
        if contract["type"] == "layers"
    ]
    return "```text\n" + "\n".join(lines) + "\n```"


def fetched_files() -> str:
    """Return the list of files that are fetched from a model's repository."""
    return "\n".join(f"- `{name}`" for name in FETCHED_FILES)


def search_options_table() -> str:
    """Return the options of a search as a Markdown table."""
    rows = [
        "| command line | Python, wire | value | default | what it does |",
        "|---|---|---|---|---|",
    ]
    for option in OPTIONS.values():
        if option.flag or option.name in SearchOptions.__optional_keys__:
            names = dict.fromkeys((option.name, option.wire_field))
            has_default = option.kind != "flag" and option.default not in (None, "")
            default = f"`{option.default}`" if has_default else ""
            flag = f"`{option.flag}`" if option.flag else ""
            rows.append(
                f"| {flag} | {', '.join(f'`{name}`' for name in names)} "
                f"| {_values_of(option)} | {default} | {option.help} |"
            )
    return "\n".join(rows)


def _values_of(option: Option) -> str:
    """Describe the values of an option."""
    if option.choices:
        return ", ".join(f"`{choice}`" for choice in option.choices)
    if option.minimum is None or option.maximum is None:
        return option.kind
    if option.exclusive:
        return f"{option.kind} above {option.minimum} and below {option.maximum}"
    return f"{option.kind} from {option.minimum} to {_grouped(option.maximum)}"


def limits_table() -> str:
    """Return the limits of a server as a Markdown table."""
    limits = Limits()
    threads = ServiceConfig({"default": Path()}).search_threads
    # What is limited, the maximum, and the field of Limits if an option of the server sets it.
    rows: list[tuple[str, float, str]] = [
        ("characters of a query's text", MAX_QUERY_CHARS, ""),
        ("passages on a page (`page_size`)", MAX_K, ""),
        ("passages that pages reach", MAX_OFFSET, ""),
        ("passages of a streamed search", MAX_STREAM_LIMIT, ""),
        ("passages of a list or stream with `collapse` or `mmr`", MAX_ARRANGED, ""),
        *_limits_of_options(),
        ("searches or texts in one request", limits.batch_size, "batch_size"),
        ("passages that a batch of searches asks for", limits.batch_passages, "batch_passages"),
        ("characters of a text to embed or count", limits.text_chars, "text_chars"),
        ("neighbours before or after a passage (`GetPassage`)", limits.neighbours, ""),
        ("characters of a part of a document (`GetDocument`)", limits.range_chars, ""),
        ("bytes of a request, and of an answer", limits.message_bytes, "message_bytes"),
        ("tokens of a request's texts", limits.request_tokens, "request_tokens"),
        ("requests in progress", limits.concurrent_requests, "concurrent_requests"),
        (
            "bytes of all messages in progress, each counted twice",
            limits.message_budget,
            "message_budget",
        ),
        ("connections", limits.connections, "connections"),
        (
            "seconds for a message to arrive or be taken, and 1 more for each 64 KiB",
            limits.stall_seconds,
            "stall_seconds",
        ),
        ("threads that search", threads, "search_threads"),
    ]
    flags = {**LIMIT_OPTIONS, "search_threads": "search-threads"}
    lines = [
        f"| {what} | {_grouped(most)} | {f'`--{flags[field]}`' if field else ''} |"
        for what, most, field in rows
    ]
    return "\n".join(["| limit | maximum | option |", "|---|--:|---|", *lines])


def _limits_of_options() -> Iterator[tuple[str, float, str]]:
    """Yield a row of ``limits_table`` for each limit that options of a search have."""
    limited = [option for option in OPTIONS.values() if option.server_limit]
    for limit in dict.fromkeys(option.server_limit for option in limited):
        sharing = [option for option in limited if option.server_limit == limit]
        if not sharing[0].page_field and sharing[0].maximum is not None:
            names = ", ".join(f"`{option.name}`" for option in sharing)
            yield f"{names} of a search", sharing[0].maximum, ""


def _grouped(number: float) -> str:
    """Return a whole number with its digits in groups of three."""
    return f"{int(number):_}".replace("_", " ")


def http_operations() -> str:
    """Return the operations of the HTTP API as a Markdown table."""
    document = http_document()
    rows = ["| request | operation | what it does |", "|---|---|---|"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            what = operation["description"].split("\n\n")[0].replace("\n", " ")
            rows.append(f"| `{method.upper()} {path}` | `{operation['operationId']}` | {what} |")
    return "\n".join(rows)


def mcp_tools() -> str:
    """Return the tools for assistants as a Markdown table."""
    rows = ["| tool | arguments | what models read about it |", "|---|---|---|"]
    for tool in TOOLS.values():
        names = ", ".join(f"`{name}`" for name in tool.arguments.model_fields)
        rows.append(f"| `{tool.name}` | {names} | {tool.description} |")
    return "\n".join(rows)


def http_document() -> dict[str, Any]:
    """Return the OpenAPI document of the HTTP API."""

    async def make() -> dict[str, Any]:
        config = GatewayConfig()
        upstream = Upstream(config)
        try:
            return create_api(config, upstream).openapi()
        finally:
            await upstream.close()

    return asyncio.run(make())


def tested_clients() -> str:
    """Return the clients of others that `make test-integrations` runs, as a Markdown table."""
    folder = ROOT / "tests" / "gateway" / "integrations"
    pinned = (folder / "requirements.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in pinned if "==" in line)
    npm = json.loads((folder / "package.json").read_text())["dependencies"]
    versions |= {f"{name} (npm)": version for name, version in npm.items()}
    rows = ["| client | version | what is tested |", "|---|---|---|"]
    rows += [f"| {name} | {versions.pop(name)} | {tested} |" for name, tested in _TESTED.items()]
    if versions:
        raise ValueError(f"say what is tested of {', '.join(versions)}")
    return "\n".join(rows)


_TESTED = {
    "openai": "vectors by default, as floats and in base64 are those of gRPC, bit for bit; models; "
    "errors as its own exceptions; 40 requests at once",
    "openai (npm)": "vectors, models and errors as above, with Node 20",
    "cohere": "`Client` and `ClientV2` order texts as gRPC does; errors as its own exceptions",
    "@modelcontextprotocol/sdk (npm)": "[MCP](mcp.md) over stdio and HTTP: tools, resources, "
    "errors",
    "@modelcontextprotocol/client (npm)": "the same, with the protocol of 2025 and that of 2026",
    "schemathesis": "every operation of a server that takes documents, in 1,000 cases or more: no "
    "error of the server; answers, statuses and media types as described, those of success too",
    "selenium": "the [search page](page.md) in Chromium: every view and its texts, the keyboard "
    "alone, narrow screens",
    "axe-core (npm)": "the search page in all views, light and dark: no rule of accessibility is "
    "broken",
}


def http_statuses() -> str:
    """Return the statuses of HTTP with the reasons that have them, as a Markdown table."""
    reasons: dict[int, list[str]] = {}
    for kind, code in status.STATUS_CODES.items():
        answered = problems.REASONS.get(kind.reason, problems.STATUSES.get(code.name, 500))
        reasons.setdefault(answered, []).append(kind.reason)
    for answered, reason in problems.OWN_REASONS:
        reasons.setdefault(answered, []).append(reason)
    rows = ["| status | reasons |", "|--:|---|"]
    for answered, named in sorted(reasons.items()):
        rows.append(f"| {answered} | {', '.join(f'`{one}`' for one in dict.fromkeys(named))} |")
    return "\n".join(rows)


def errors_table() -> str:
    """Return a table of all exceptions: reason, exit code, gRPC status and meaning."""
    rows = ["| exception | reason | exit code | gRPC status | meaning |", "|---|---|--:|---|---|"]
    classes = [
        *_tree(errors.RetrievalError, errors.__name__),
        *_tree(errors.RetrievalError, status.__name__),
    ]
    for kind in classes:
        code = status.STATUS_CODES.get(kind)
        meaning = (kind.__doc__ or "").strip().split("\n", maxsplit=1)[0].replace("``", "`")
        rows.append(
            f"| `{kind.__name__}` | `{kind.reason}` | {kind.exit_code} "
            f"| {f'`{code.name}`' if code else '—'} | {meaning} |"
        )
    return "\n".join(rows)


def _tree(kind: type[errors.RetrievalError], module: str) -> Iterator[type[errors.RetrievalError]]:
    """Yield a class and its subclasses of one module, in the order of their definition."""
    if kind.__module__ == module:
        yield kind
    for below in kind.__subclasses__():
        yield from _tree(below, module)


def command_help(program: str) -> str:
    """Return the ``--help`` of a program and of all its commands, each under a heading."""
    group = PROGRAMS[program]
    parts = [_help(program, group)]
    parts += [
        f"### {program} {' '.join(command)}\n\n{_help(program, group, *command)}"
        for command, _ in commands_of(group)
    ]
    return "\n\n".join(parts)


def commands_of(group: click.Group) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command of a group and its subgroups, with the words that name it."""
    for name, command in sorted(group.commands.items()):
        yield (name,), command
        if isinstance(command, click.Group):
            for words, inner in commands_of(command):
                yield (name, *words), inner


def _help(program: str, group: click.Group, *command: str) -> str:
    result = CliRunner(env={"COLUMNS": str(WIDTH)}).invoke(
        group, [*command, "--help"], prog_name=program, terminal_width=WIDTH
    )
    return f"```text\n$ {' '.join((program, *command))} --help\n{result.output.rstrip()}\n```"


def core_help() -> str:
    """Return the help of ``python -m retrieval.gte``."""
    from retrieval.gte.__main__ import main

    output = io.StringIO()
    os.environ |= {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main(["--help"])
    return f"```text\n$ python -m retrieval.gte --help\n{output.getvalue().rstrip()}\n```"


def wire_contract() -> str:
    """Return services, messages and enums of ``proto/`` with their comments."""
    files = _descriptors()
    parts = ["## Services"]
    for file, comments in files:
        for number, service in enumerate(file.service):
            place = (_FILE_SERVICE, number)
            parts += [f"### {service.name}", comments[place]]
            for index, method in enumerate(service.method):
                stream = "stream " if method.server_streaming else ""
                parts += [
                    f"#### {service.name}.{method.name}",
                    f"`{method.name}({_short(method.input_type)})` returns "
                    f"`{stream}{_short(method.output_type)}`",
                    comments[*place, _SERVICE_METHOD, index],
                ]
    parts.append("## Messages")
    for file, comments in files:
        for number, message in enumerate(file.message_type):
            place = (_FILE_MESSAGE, number)
            parts += [f"### {message.name}", comments[place]]
            if message.field:
                rows = ["| field | number | type | meaning |", "|---|--:|---|---|"]
                rows += [
                    f"| `{field.name}` | {field.number} | `{_type_of(field, message)}` "
                    f"| {comments[*place, _MESSAGE_FIELD, index]} |"
                    for index, field in enumerate(message.field)
                ]
                parts.append("\n".join(rows))
    parts.append("## Enums")
    for file, comments in files:
        for number, enum in enumerate(file.enum_type):
            place = (_FILE_ENUM, number)
            rows = ["| value | number | meaning |", "|---|--:|---|"]
            rows += [
                f"| `{value.name}` | {value.number} | {comments[*place, _ENUM_VALUE, index]} |"
                for index, value in enumerate(enum.value)
            ]
            parts += [f"### {enum.name}", comments[place], "\n".join(rows)]
    return "\n\n".join(parts)


_Comments = dict[tuple[int, ...], str]


def _descriptors() -> list[tuple[descriptor_pb2.FileDescriptorProto, _Comments]]:
    """Return the ``.proto`` files and their comments by path, Search first."""
    sources = sorted(path.relative_to(PROTO_ROOT) for path in PROTO_ROOT.rglob("*.proto"))
    sources.sort(key=lambda path: path.stem != "search_service")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "descriptors")
        arguments = [
            "protoc",
            f"--proto_path={PROTO_ROOT}",
            f"--proto_path={resources.files('grpc_tools') / '_proto'}",
            "--include_source_info",
            f"--descriptor_set_out={output}",
            *map(str, sources),
        ]
        if protoc.main(arguments) != 0:
            raise RuntimeError("protoc failed")
        parsed = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())
    by_name = {file.name: file for file in parsed.file}
    return [(by_name[str(path)], _comments(by_name[str(path)])) for path in sources]


def _comments(file: descriptor_pb2.FileDescriptorProto) -> _Comments:
    """Return each comment as one paragraph, with Markdown's special characters escaped."""
    return {
        tuple(location.path): " ".join(location.leading_comments.split())
        .replace("|", "\\|")
        .replace("{", "`{")
        .replace("}", "}`")
        for location in file.source_code_info.location
    }


def _type_of(
    field: descriptor_pb2.FieldDescriptorProto, message: descriptor_pb2.DescriptorProto
) -> str:
    name = _short(field.type_name) or _SCALARS[field.type]
    entries = {entry.name: entry.field for entry in message.nested_type}
    if name in entries:
        key, value = entries[name]
        return f"map<{_SCALARS[key.type]}, {_SCALARS[value.type]}>"
    if field.label == field.LABEL_REPEATED:
        return f"repeated {name}"
    if field.proto3_optional:
        return f"optional {name}"
    if field.HasField("oneof_index"):
        return f"{name}, one of {message.oneof_decl[field.oneof_index].name}"
    return name


def _short(type_name: str) -> str:
    return type_name.removeprefix(".").removeprefix("retrieval.v1.")
