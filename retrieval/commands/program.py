"""Running of a command line: one line per error, the right exit code, advice on mistakes."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import click

from retrieval.domain.own_process import claim_process
from retrieval.errors import RetrievalError

COMMANDS: Final = {
    "indexer": (
        *("build", "compact", "formats", "list", "models", "publish", "remove", "search", "show"),
        *("status", "verify", "watch"),
    ),
    "retrieval": (
        *(
            "collection",
            "delete",
            "embed",
            "eval",
            "gateway",
            "mcp",
            "proto",
            "put",
            "search",
            "serve",
            "token",
        ),
    ),
}
"""Commands by program, so that each program can point to the other's."""

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


_STDERR: Final = 2
"""Number of the last standard stream (POSIX)."""


class FiniteRange(click.FloatRange):
    """Range of numbers without NaN, which click considers to be in every range."""

    def convert(
        self,
        value: Any,  # noqa: ANN401  (as in click)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return the number, or refuse it."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


def run(
    cli: click.Command,
    name: str,
    arguments: Sequence[str] | None = None,
    *,
    interrupted: str = "",
    takes_no_arguments: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run a command line in a process of its own; a user's mistake is one line on standard error.

    Args:
        cli: the command.
        name: the program's name in messages.
        arguments: without the program's name; None for those of the process.
        interrupted: message for a user who stops it with Ctrl-C; empty for none.
        takes_no_arguments: by command, how to pass what people try to pass as an argument.

    Returns:
        the exit code: 0 done, 1 failed, 2 the user's mistake, 130 interrupted.
    """
    _open_standard_streams()
    claim_process()
    try:
        outcome = cli.main(arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USER_ERROR
    except click.ClickException as error:
        advice = _advice(error, takes_no_arguments)
        return _fail(error.format_message() + advice, EXIT_USER_ERROR)
    except RetrievalError as error:
        return _fail(error.message, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        if interrupted:
            click.echo(interrupted, err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has closed it. At exit Python would flush the rest, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    # With standalone_mode off, click returns the exit code of `--help` and others.
    return outcome if isinstance(outcome, int) else 0


def _open_standard_streams() -> None:
    """Open the null device in place of standard streams that the caller has closed.

    Without that, a file that is opened later, such as a database, would take the number of standard
    error, and get what libraries print there.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(opened)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")


def _fail(message: str, exit_code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return exit_code


def _advice(error: click.ClickException, takes_no_arguments: Mapping[str, str]) -> str:
    """Return advice that click can't give: where a command, option or argument belongs."""
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return ""
    command = error.ctx.command
    if isinstance(error, click.NoSuchOption):
        return _about_option(error.option_name, error.ctx)
    if error.message.startswith("No such command"):
        typed = error.message.split("'")[1]
        others = [name for name, names in COMMANDS.items() if typed in names]
        return f" It is a command of the other program: {others[0]} {typed}" if others else ""
    if error.message.startswith("Got unexpected extra argument"):
        own = takes_no_arguments.get(str(command.name), "")
        has_index = any("--index" in param.opts for param in command.params)
        return own or ("; an index's folder is given with --index" if has_index else "")
    return ""


def _about_option(option: str, context: click.Context) -> str:
    """Return advice for an option of a command that was given before the command."""
    group = context.command
    if not isinstance(group, click.Group):
        return ""
    having = [
        name
        for name, command in group.commands.items()
        if any(option in param.opts for param in command.params)
    ]
    program = context.command_path
    return f" It goes after the command: {program} {having[0]} {option}" if having else ""
