"""Errors of usage: one line that says what is wrong with what was typed, and what was probably meant."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn, Self

from quickstudy.errors import ConfigError, closest, nearest


class PlainParser(argparse.ArgumentParser):
    """argparse's parser, whose errors are a ``ConfigError`` of one line."""

    @classmethod
    def for_command(cls, prog: str, about: str) -> Self:
        """Return a parser without options."""
        return cls(prog, description=about, allow_abbrev=False)

    def read(self, arguments: list[str]) -> argparse.Namespace:
        """Return the arguments' values."""
        return self.parse_args(arguments)

    def error(self, message: str) -> NoReturn:
        """Raise the error instead of printing it with the usage."""
        raise usage_error(self, message)


def usage_error(parser: argparse.ArgumentParser, message: str) -> ConfigError:
    """Return the error for what argparse or jsonargparse complains of."""
    text = " ".join(message.split())
    help_command = f"{parser.prog} --help"
    known = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    if found := re.match(r"unrecognized arguments: (.*)", text):
        typed = next((word for word in found[1].split() if word.startswith("-")), None)
        if typed is None:
            return ConfigError(f"cannot use '{found[1]}': options start with --. See {help_command}")
        named = typed.split("=")[0]
        place = next((one for one in parser._actions if not one.option_strings and f"--{one.dest}" == named), None)
        if place is not None:
            return ConfigError(
                f"there is no option '{named}': {place.metavar or place.dest} stands without one, as in {parser.prog} "
                f"{' '.join(str(one.metavar or one.dest) for one in parser._actions if not one.option_strings)}. "
                f"See {help_command}"
            )
        return _no_option(named, known, help_command)
    if found := re.match(r"Option '(\S+)' is not accepted", text):  # in a YAML file
        return _no_option(found[1], [option.removeprefix("--") for option in known], help_command)
    if found := re.match(r"the following arguments are required: (\S+)", text):
        name = found[1].rstrip(",").removeprefix("--")
        return ConfigError(f"{name if name.isupper() else f'--{name}'} is missing. See {help_command}")
    if found := re.match(r'Parser key "(\S+)":(.*)', message, re.DOTALL):
        return ConfigError(f"--{found[1]}: {_wrong_value(found[2])}. See {help_command}")
    return ConfigError(text)


def _wrong_value(reasons: str) -> str:
    """Say in short what jsonargparse says over many lines, one per type that was tried."""
    tried = re.findall(r"(?m)^\s*- (.*)$", reasons) or [reasons.strip()]
    kinds = [re.match(r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\]|([^:]*))", reason) for reason in tried]
    value = re.search(r"(?:Given|Got) value: (.*)", reasons)
    if value is None or None in kinds:
        return " ".join(reasons.split())
    expected = [next(filter(None, kind.groups())).replace("NoneType", "null") for kind in kinds if kind]
    return f"expected {' or '.join(dict.fromkeys(expected))}, not '{value[1]}'"


def _no_option(typed: str, known: list[str], help_command: str) -> ConfigError:
    leaves = {option.lstrip("-").rpartition(".")[2]: option for option in reversed(known)}
    last = typed.lstrip("-").rpartition(".")[2]  # --model.training_strategy_kwargs.test_shots: --test_shots
    # --epochs: --trainer.max_epochs
    leaf = (last if last in leaves else None) if "." in typed else nearest(last, leaves)
    meant = closest(typed, known) if leaf is None else f"; did you mean '{leaves[leaf]}'?"
    return ConfigError(f"there is no option '{typed}'{meant} See {help_command}")
