"""The texts of ``--help`` in tests/golden/help; to write them again: ``python tests/golden_help.py``."""

from __future__ import annotations

import contextlib
import io
import os
import re
import textwrap
from pathlib import Path

import docstring_parser

from quickstudy import Trainer
from quickstudy.cli import COMMANDS, main

FOLDER = Path(__file__).parent / "golden" / "help"
ASKED = {
    "quickstudy": ["--help"],
    **{name: [name, "--help"] for name in COMMANDS},
    "predict-checkpoint": ["predict", "--checkpoint", "best.ckpt", "--help"],
}
"""What is typed, by the name of the file with the answer."""
_OWN = {each.arg_name for each in docstring_parser.parse(str(Trainer.__doc__)).params}
"""The trainer's options that are not in Lightning's words."""


def shown(name: str) -> str:
    """Return a command's help, made the same on every terminal, Python, torch and Lightning."""
    before = os.environ.copy()
    os.environ.update(COLUMNS="100", NO_COLOR="1")
    try:
        with contextlib.redirect_stdout(io.StringIO()) as told:
            assert main(ASKED[name]) == 0
    finally:
        os.environ.clear()
        os.environ.update(before)
    usage, *parts = re.split(r"\n(?=\S|  -| *\n)", told.getvalue())
    options = [(re.match(r"  --trainer\.(\w+)", part), part) for part in parts]
    kept = [_settled(part) for option, part in options if option is None or option[1] in _OWN]
    return "\n".join([" ".join(usage.split()), *kept]).rstrip() + "\n"


def _settled(part: str) -> str:
    """Return an option with its words, or whatever else stands together, free of what others' versions choose."""
    if not part.startswith("  -"):
        return part
    text = " ".join(part.split())
    text = re.sub(r"(,? ?)known subclasses: [^)]*", "", text)  # of all that is imported by then
    text = re.sub(r"Optional\[((?:[^][]|\[[^][]*\])*)\]", r"Union[\1, null]", text)
    text = re.sub(r"(--?[\w.]+) (\S+), (--[\w.+]+) \2", r"\1, \3 \2", text)  # as Python 3.13 writes it
    return textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)


def without_types(text: str) -> list[str]:
    """Return the options and what is said of them, but for their types, which older jsonargparses spell otherwise."""
    parts = [" ".join(part.split()) for part in re.split(r"\n(?=  \S|\S)", text)]
    told = [re.sub(r" \((required, )?type: .*", "", part) for part in parts if ".help [CLASS_PATH" not in part]
    return [part.replace("skip_null", "skip_unset") for part in told]


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in ASKED:
        (FOLDER / f"{each}.txt").write_text(shown(each), encoding="utf-8")
