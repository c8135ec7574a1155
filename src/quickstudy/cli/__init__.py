"""The command line: ``quickstudy COMMAND``. A command's module is imported only when it is chosen."""

from __future__ import annotations

import importlib
import inspect
import io
import os
import sys
import traceback
import warnings
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import Any, NamedTuple

from quickstudy import __version__
from quickstudy.cli import options
from quickstudy.cli.imports import add_imports, imported, named_in
from quickstudy.cli.usage import PlainParser
from quickstudy.errors import QuickstudyError, unknown


class Command(NamedTuple):
    """A command: its module has ``run(args) -> exit code``."""

    module: str
    about: str
    flags: bool = False
    """Whether its options come from signatures, by ``add_arguments`` of its module; else they are in ``options``."""
    of_checkpoint: str | None = None
    """The module that serves it in its place, with such options, where there is an option of ``_OF_CHECKPOINT``."""


_OF_CHECKPOINT = ("--checkpoint", "--config", "--print_config", "--data.", "--trainer.")
COMMANDS = {
    "demo": Command("demo", "see few-shot learning at work: train, test, adapt and write a report"),
    "ladder": Command("ladder", "tell which method is good enough on your classes, and how accurate it is", flags=True),
    "fit": Command("fit", "train a model on folders, a CSV file or a published data set", flags=True),
    "test": Command("test", "measure a checkpoint's accuracy", flags=True),
    "verify": Command("verify", "measure again what was measured of a run, and compare"),
    "compare": Command("compare", "say by how much one run is better than another, on the same test episodes"),
    "adapt": Command("adapt", "learn classes from a folder of class folders, without training", flags=True),
    "predict": Command(
        "predict", "classify pictures with a saved model, a run or a checkpoint", of_checkpoint="predict_data"
    ),
    "embed": Command("embed", "write a model's embeddings of inputs, draw them, or find the nearest"),
    "export": Command("export", "write an ONNX or torch.export file that answers without quickstudy"),
    "bench": Command("bench", "reproduce a published table, cell by cell, and compare"),
    "serve": Command("serve", "answer over HTTP with a saved model, and let it learn"),
    "cache": Command("cache", "show which embeddings are kept, and clear them"),
    "list": Command("listing", "name the strategies, backbones, data sets, optimizers and schedulers there are"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments; default: those that the program was called with.

    Returns:
        The exit code: 0 for success, 2 for an error that the user can mend, 1 for one that nobody foresaw (and for what
        a command tells at its end, such as pictures that could not be read), 130 after Ctrl-C, 143 after SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("QUICKSTUDY_DEBUG", "0") not in ("", "0")
    shown = warnings.formatwarning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal must not cost a result its "±"
    try:
        code = _guarded([argument for argument in arguments if argument != "--debug"], debug)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _hang_up()
    finally:
        warnings.formatwarning = shown


def _guarded(arguments: list[str], debug: bool) -> int:
    """Run a command and turn what ends it early into an exit code."""
    try:
        return _run(arguments)
    except BrokenPipeError:
        raise
    except (QuickstudyError, OSError) as error:
        if debug:
            traceback.print_exc()
        _complain(str(error))
        return 2
    except Exception as error:
        if debug:
            traceback.print_exc()
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        told = " ".join([told, *getattr(error, "__notes__", ())])
        _complain(f"{told} (unforeseen; to see where it comes from, run the same with --debug)")
        return 1
    except KeyboardInterrupt:
        return 130
    except SystemExit as stop:
        if type(stop).__name__ == "SIGTERMException":  # Lightning's; to import it takes seconds
            return 143
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into exit(1)
            return 130
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1


def _run(arguments: list[str]) -> int:
    top = _top()
    place = next((place for place, word in enumerate(arguments) if not word.startswith("-")), len(arguments))
    top.parse_args(arguments[:place])
    if place == len(arguments):
        top.print_help()
        return 0
    name = arguments[place]
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    command, rest = COMMANDS[name], arguments[place + 1 :]
    if command.of_checkpoint and any(word.startswith(_OF_CHECKPOINT) for word in rest):
        command = command._replace(module=command.of_checkpoint, flags=True)
    if command.flags:
        module = _module(command)
        parser: Any = importlib.import_module("quickstudy.cli.flags").FlagParser.for_command(
            f"quickstudy {name}", str(module.__doc__).split("\n\n")[0].replace("``", "")
        )
        parser.words = rest
        imported(named_in(rest))
        module.add_arguments(parser)
    else:  # without the module, which imports torch, so that help and errors come at once
        add_arguments = getattr(options, command.module)
        parser = PlainParser.for_command(f"quickstudy {name}", str(inspect.getdoc(add_arguments)).replace("``", ""))
        add_arguments(parser)
    add_imports(parser)
    args = parser.read(rest)
    module = _module(command)
    imported(getattr(args, "import"))
    code: int = module.run(args)
    return code


def _module(command: Command) -> Any:
    module = importlib.import_module(f"quickstudy.cli.{command.module}")
    warnings.formatwarning = _one_line  # now, as Lightning sets its own when it is imported
    return module


def _top() -> PlainParser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.about}" for name, command in COMMANDS.items()]
    top = PlainParser(
        "quickstudy",
        usage="quickstudy [-h] [--version] [--debug] COMMAND ...",
        description="Few labels in, a working model out.",
        epilog="\n".join(["commands:", *lines, "", "quickstudy COMMAND --help explains each."]),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"quickstudy {__version__}")
    top.add_argument("--debug", action="store_true", help="show where an error comes from (also: QUICKSTUDY_DEBUG=1)")
    return top


def _complain(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(("error:", "bold red"), " ", " ".join(message.split()))
    Console(stderr=True).print(line, soft_wrap=True)


def _one_line(message: Warning | str, *args: Any, **kwargs: Any) -> str:
    return f"warning: {message}\n"


def _hang_up() -> int:
    """End quietly: whoever read our output has gone, and Python would complain when it flushes the rest."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
