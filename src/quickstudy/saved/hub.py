"""An adapted model on the Hugging Face Hub: its folder, and a model card that says what it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

from quickstudy.algorithms import EmbeddingAlgorithm, algorithm_of
from quickstudy.errors import ConfigError, DataError, brief, check_options, first_line, one_line, require
from quickstudy.files import atomic_write, looked_in
from quickstudy.learning.confidence import Confidence, HeldOutAccuracy, accuracy_in_words, in_words
from quickstudy.modality import MODALITIES
from quickstudy.saved.model_folder import DESCRIPTION

CARD = "README.md"
_FILES = ("encoder-*.safetensors", "learned-*.safetensors")
_CLASSES_SHOWN = 200
_TAGGED = ("image", "text", "audio", "video", "tabular")
"""Kinds of input of which the Hub has a task, such as ``image-classification``."""


class PushOptions(TypedDict, total=False):
    """How a model is uploaded."""

    private: bool | None
    """Whether a repository that is made now can be seen by its owner only; default: as the account has it."""
    license: str | None
    """The identifier of a licence, such as ``"apache-2.0"``; none is claimed unless it is given."""
    revision: str | None
    """A branch, which is made if needed; default: the main one."""
    commit_message: str | None
    token: str | None
    """Of an account that may write; default: the one that ``hf auth login`` keeps."""


def push(
    folder: str | os.PathLike[str],
    repo_id: str,
    confidence: Confidence,
    accuracy: HeldOutAccuracy,
    thumbnails: bool = False,
    **options: Unpack[PushOptions],
) -> str:
    """Upload a saved model, with a model card, as one commit.

    Args:
        folder: of the model; the card is written into it.
        repo_id: ``"owner/name"``.
        confidence, accuracy: its figures, for the card.
        thumbnails: whether small pictures of its examples are in the folder, as the card then says.
        options: see ``PushOptions``.

    Returns:
        The commit's address.

    Raises:
        ConfigError: there is no option of a name.
        MissingPackageError: huggingface-hub is not installed.
        DataError: the Hub cannot be reached, or refuses.
    """
    check_options("push_to_hub", options, PushOptions.__annotations__)
    hub: Any = require("huggingface_hub", extra="hub")
    description = json.loads((Path(folder) / DESCRIPTION).read_text("utf-8"))
    with atomic_write(Path(folder) / CARD, "w") as file:
        file.write(card(description, repo_id, confidence, accuracy, thumbnails, options.get("license")))
    try:
        api = hub.HfApi(token=options.get("token"))
        api.create_repo(repo_id, private=options.get("private"), exist_ok=True)
        revision = options.get("revision")
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=str(folder),
            revision=revision,
            commit_message=options.get("commit_message") or "A model of quickstudy",
            allow_patterns=[DESCRIPTION, CARD, *_FILES],
            delete_patterns=list(_FILES),  # those of the model before
        )
    except Exception as error:  # the client's own, its HTTP library's, the system's
        raise DataError(
            f"the model could not be uploaded to '{repo_id}': {first_line(error)}. Check the name (owner/name) and "
            "the network, and type: hf auth login"
        ) from error
    return str(commit.commit_url)


def fetched(name: str | os.PathLike[str], revision: str | None = None, token: str | None = None) -> Path:
    """Return the folder of a saved model: ``name`` itself, or that of a repository, which is downloaded if needed.

    Args:
        name: a folder, or ``"owner/name"`` on the Hub.
        revision: a branch, a tag or a commit; default: the main branch.
        token: of an account that may read; default: the one that ``hf auth login`` keeps.

    Raises:
        MissingPackageError: huggingface-hub is not installed.
        ConfigError: a revision is given of a folder.
        DataError: there is neither, or the Hub cannot be reached and the model is not in its cache.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise ConfigError(
                f"revision={brief(revision)} is of a repository on the Hub, and '{name}' is a folder here"
            )
        return Path(name)
    hub: Any = require("huggingface_hub", extra="hub")
    try:
        return Path(
            hub.snapshot_download(
                str(name),
                revision=revision,
                token=token,
                allow_patterns=[DESCRIPTION, *_FILES],
                library_name="quickstudy",
            )
        )
    except Exception as error:  # the client's own, its HTTP library's, the system's
        of = f" at revision '{revision}'" if revision else ""
        raise DataError(
            f"there is no folder '{name}' ({looked_in(Path(name))}), and the Hugging Face Hub did not give it{of}: "
            f"{first_line(error)}. Check the name (owner/name) and the network; for a private one, type: hf auth "
            "login. Without a network, give the folder that predictor.save wrote"
        ) from error


def card(
    description: Mapping[str, Any],
    repo_id: str,
    confidence: Confidence,
    accuracy: HeldOutAccuracy,
    thumbnails: bool = False,
    license: str | None = None,
) -> str:
    """Return the model card of a saved model, in Markdown.

    Args:
        description: what ``predictor.json`` holds.
        repo_id: where it is to be found.
        confidence, accuracy: its figures.
        thumbnails: whether small pictures of its examples go along.
        license: the identifier of a licence.
    """
    strategy, backbone, load = description["algorithm"], description["backbone"], description["load"]
    counts = dict(zip(description["classes"], description["examples"], strict=True))
    kind, called, shown = str((load or {}).get("name") or ""), "inputs", ""
    if kind in MODALITIES:
        called, shown = MODALITIES[kind].called, MODALITIES[kind].shown_as
    pictures = kind == "image"
    embeds = issubclass(algorithm_of(strategy["name"], repo_id), EmbeddingAlgorithm)
    code = [name for name, missing in (("backbone", not backbone), ("load", load and not load["name"])) if missing]
    again = "".join(f", {name}=..." for name in code)
    head = ["library_name: quickstudy", *([f"license: {json.dumps(license)}"] if license else [])]
    head += [f"pipeline_tag: {kind}-classification"] * (kind in _TAGGED)
    head += ["tags:", "- few-shot", "- few-shot-learning", "- quickstudy", f"- {strategy['name']}"]
    rows = [f"| {_cell(str(name))} | {count} |" for name, count in list(counts.items())[:_CLASSES_SHOWN]]
    if len(counts) > _CLASSES_SHOWN:
        rows.append(f"| and {len(counts) - _CLASSES_SHOWN} more classes | |")
    return "\n".join(
        [
            "---",
            *head,
            "---",
            "",
            f"# {repo_id.split('/')[-1]}",
            "",
            f"Classifies {called} into {len(counts)} classes, which it learned from "
            f"{sum(counts.values())} examples with quickstudy.",
            "",
            "```python",
            f"from quickstudy import Predictor  # pip install 'quickstudy[{kind if kind in _TAGGED else 'image'},hub]'",
            "",
            f'predictor = Predictor.from_pretrained("{repo_id}"{again})',
            'predictor.predict(["picture.jpg"])' if pictures else f"predictor.predict({called})",
            "```",
            "",
            *([f"Made with code that no file holds: give the same {' and '.join(code)} again.", ""] if code else []),
            "## What it is",
            "",
            f"- Strategy: `{strategy['name']}`{_options(strategy['options'])}",
            f"- Backbone: {'`' + backbone['name'] + '`' + _options(backbone['options']) if backbone else 'code'}",
            f"- Inputs: {called if kind else 'as its code loads them' if load else 'tensors'}"
            f"{_options(load['options']) if load else ''}",
            f"- Written: {description['written']['time']} by "
            + ", ".join(f"{name} {number}" for name, number in description["written"]["by"].items()),
            "",
            "| class | examples |",
            "|---|---|",
            *rows,
            "",
            "## How good and how sure it is",
            "",
            *(f"- {_cell(line)}" for line in accuracy_in_words(accuracy, called if kind else "examples")),
            *(f"- {line}" for line in in_words(confidence)),
            "",
            "## Use and limits",
            "",
            "Meant for inputs like the examples that it learned from: their kind, light and background. It knows",
            "only these classes; further ones can be taught without training, `predictor.add_class(name, inputs)`. The",
            "figures above come from few examples, and hold for inputs that come as these did: measure it on your own,",
            "`predictor.score(inputs, labels)`, before anything depends on it.",
            "",
            "The files are JSON and safetensors; no code is run from them. They hold "
            + ("an embedding of each example" if embeds else "**the examples themselves**")
            + (
                (", and small pictures of them." if shown in ("", "image/jpeg") else ", and a little of each to show.")
                * thumbnails
                or "."
            ),
            "",
        ]
    )


def _options(options: Mapping[str, Any]) -> str:
    return f" with `{json.dumps(options)}`" if options else ""


def _cell(text: str) -> str:
    """Return text that ends neither a table's cell nor its row, and is no markup."""
    return "".join(f"\\{each}" if each in "\\`*_|<>[]#" else each for each in one_line(" ".join(text.split())))
