"""What both programs share: one line an error, and the right exit code."""

import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from retrieval.errors import RetrievalError

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class FiniteRange(click.FloatRange):
    """A range of numbers that leaves out NaN, which click takes to be in any range."""

    def convert(
        self,
        value: Any,  # noqa: ANN401  (as in click)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Parse the option's value."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


def run(
    cli: click.Command, name: str, arguments: Sequence[str] | None = None, *, interrupted: str = ""
) -> int:
    """Run a command line; a user's mistake is one line on standard error.

    Args:
        cli: the command.
        name: what to call it in messages.
        arguments: without the program's name; None means those of the process.
        interrupted: what to tell a user who stops it with Ctrl-C; empty = nothing.

    Returns:
        the exit code: 0 done, 1 failed, 2 the user's mistake, 130 interrupted.
    """
    try:
        outcome = cli.main(arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USER_ERROR
    except click.ClickException as error:
        return _fail(error.format_message(), EXIT_USER_ERROR)
    except RetrievalError as error:
        return _fail(error.message, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        if interrupted:
            click.echo(interrupted, err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever reads our output has had enough. Python would complain once more at exit, when
        # it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    # click returns the code of `--help` and the like instead of exiting.
    return outcome if isinstance(outcome, int) else 0


def _fail(message: str, exit_code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return exit_code
