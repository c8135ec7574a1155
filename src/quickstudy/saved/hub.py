"""A saved model on the Hugging Face Hub: its folder, and a model card that says what it is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from quickstudy.algorithms import EmbeddingAlgorithm, algorithm_of
from quickstudy.domains import DOMAINS
from quickstudy.errors import ConfigError, DataError, brief, check_options, first_line, one_line, require
from quickstudy.files import atomic_write, looked_in
from quickstudy.kinds.base import kind_of
from quickstudy.learning.confidence import Confidence, HeldOutAccuracy, accuracy_in_words, in_words
from quickstudy.modality import MODALITIES
from quickstudy.saved.model_folder import DESCRIPTION

CARD = "README.md"
_FILES = ("encoder-*.safetensors", "learned-*.safetensors", "head-*.safetensors")
_CLASSES_SHOWN = 200

_OF_CLASSES = (
    "only these classes; further ones can be taught without training, `predictor.add_class(name, inputs)`. The",
    "figures above come from few examples, and hold for inputs that come as these did: measure it on your own,",
    "`predictor.score(inputs, labels)`, before anything depends on it.",
)
_OF_NUMBERS = (
    "anything else, too; further examples can be shown without training, `predictor.add_examples(inputs, numbers)`.",
    "Nothing here says how good it is: measure it on your own, `predictor.score(inputs, numbers)`, before anything",
    "depends on it.",
)


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
    card_of: Callable[[Mapping[str, Any], str, str | None], str],
    **options: Unpack[PushOptions],
) -> str:
    """Upload a saved model, with a model card, as one commit.

    Args:
        folder: of the model; the card is written into it.
        repo_id: ``"owner/name"``.
        card_of: makes the card of what ``predictor.json`` holds, ``repo_id`` and the licence: ``card`` or
            ``trained_card``.
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
        file.write(card_of(description, repo_id, options.get("license")))
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
    sure: tuple[Confidence, HeldOutAccuracy] | None,
    thumbnails: bool = False,
    license: str | None = None,
) -> str:
    """Return the model card of a saved model that learns, in Markdown.

    Args:
        description: what ``predictor.json`` holds.
        repo_id: where it is to be found.
        sure: its figures; None: its answers are numbers, of which none is left out to tell any.
        thumbnails: whether small pictures of its examples go along, as it then says.
        license: the identifier of a licence.
    """
    strategy, (domain, called, shown) = description["algorithm"], _inputs(description)
    counts = dict(zip(description["classes"], description["examples"], strict=True))
    tags = ["few-shot", "few-shot-learning", "quickstudy", strategy["name"]]
    embeds, shots = issubclass(algorithm_of(strategy["name"], repo_id), EmbeddingAlgorithm), sum(counts.values())
    model = "NumberPredictor" if sure is None else "Predictor"
    does = f"Tells a number of {called}" if sure is None else f"Classifies {called} into {len(counts)} classes"
    return "\n".join(
        [
            *_head(description, license, tags, classifies=sure is not None),
            *_use(
                description,
                repo_id,
                f"{does}, which it learned from {shots} examples with quickstudy.",
                f"from quickstudy import {model}",
                "predictor",
            ),
            f"- Strategy: `{strategy['name']}`{_options(strategy['options'])}",
            *_made_of(description),
            *(_how_sure(counts, *sure, called if domain else "examples") if sure is not None else ()),
            "## Use and limits",
            "",
            "Meant for inputs like the examples that it learned from: their kind, light and background. It "
            + ("answers" if sure is None else "knows"),
            *(_OF_NUMBERS if sure is None else _OF_CLASSES),
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


def _how_sure(counts: Mapping[Any, int], confidence: Confidence, accuracy: HeldOutAccuracy, called: str) -> list[str]:
    """Return lines of the classes that a model knows, and of how good and how sure it is."""
    return [
        "| class | examples |",
        "|---|---|",
        *(f"| {_cell(str(name))} | {count} |" for name, count in list(counts.items())[:_CLASSES_SHOWN]),
        *[f"| and {len(counts) - _CLASSES_SHOWN} more classes | |"] * (len(counts) > _CLASSES_SHOWN),
        "",
        "## How good and how sure it is",
        "",
        *(f"- {_cell(line)}" for line in accuracy_in_words(accuracy, called)),
        *(f"- {line}" for line in in_words(confidence)),
        "",
    ]


def trained_card(description: Mapping[str, Any], repo_id: str, license: str | None = None) -> str:
    """Return the model card of a saved model that does not learn, in Markdown; see ``card``."""
    kind, (_, called, _) = kind_of(description["kind"]), _inputs(description)
    classes = [f"| {_cell(name)} |" for name in kind.classes[:_CLASSES_SHOWN]]
    classes += [f"| and {len(kind.classes) - _CLASSES_SHOWN} more classes |"] * (len(kind.classes) > _CLASSES_SHOWN)
    told = f"Classifies {called} into {len(kind.classes)} classes" if kind.classes else f"Answers {called} with "
    does = f"{told}{'' if kind.classes else kind.forms[0]}, as it was trained to with quickstudy."
    return "\n".join(
        [
            *_head(description, license, ["quickstudy"], classifies=bool(kind.classes)),
            *_use(description, repo_id, does, "from quickstudy.trained import TrainedModel", "model"),
            *_made_of(description),
            *(["| class |", "|---|", *classes, ""] if classes else []),
            "## Use and limits",
            "",
            "Meant for inputs like those that it was trained on: their kind, light and background. It answers anything",
            "else, too, and nothing here says how well: measure it on your own before anything depends on it.",
            "",
            "The files are JSON and safetensors; no code is run from them. They hold no training examples.",
            "",
        ]
    )


def _inputs(description: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the registered name of what inputs are, what several are called, and the media type that shows them."""
    name = str((description["load"] or {}).get("name") or "")
    return (name, MODALITIES[name].called, MODALITIES[name].shown_as) if name in MODALITIES else (name, "inputs", "")


def _head(
    description: Mapping[str, Any], license: str | None, tags: Sequence[str], classifies: bool = True
) -> list[str]:
    """Return what the Hub reads of a card."""
    domain = _inputs(description)[0]
    lines = ["---", "library_name: quickstudy", *([f"license: {json.dumps(license)}"] if license else [])]
    tagged = domain in MODALITIES and MODALITIES[domain].on_hub
    lines += [f"pipeline_tag: {domain}-classification"] * (tagged and classifies)
    return [*lines, "tags:", *(f"- {tag}" for tag in tags), "---", ""]


def _use(description: Mapping[str, Any], repo_id: str, does: str, imported: str, variable: str) -> list[str]:
    """Return what a model does, and how to have it."""
    (domain, called, _), load = _inputs(description), description["load"]
    lacks = {"backbone": not description["backbone"], "head": not description.get("head", "kind")}
    code = [name for name, missing in {**lacks, "load": load and not load["name"]}.items() if missing]
    given, extra = "".join(f", {name}=..." for name in code), domain if domain in DOMAINS else DOMAINS[0]
    return [
        f"# {repo_id.split('/')[-1]}",
        "",
        does,
        "",
        "```python",
        f"{imported}  # pip install 'quickstudy[{extra},hub]'",
        "",
        f'{variable} = {imported.split()[-1]}.from_pretrained("{repo_id}"{given})',
        f'{variable}.predict(["picture.jpg"])' if domain == "image" else f"{variable}.predict({called})",
        "```",
        "",
        *([f"Made with code that no file holds: give the same {' and '.join(code)} again.", ""] if code else []),
        "## What it is",
        "",
    ]


def _made_of(description: Mapping[str, Any]) -> list[str]:
    """Return lines of its backbone, its inputs, and when it was written by what."""
    backbone, load, (domain, called, _) = description["backbone"], description["load"], _inputs(description)
    return [
        f"- Backbone: {'`' + backbone['name'] + '`' + _options(backbone['options']) if backbone else 'code'}",
        f"- Inputs: {called if domain else 'as its code loads them' if load else 'tensors'}"
        f"{_options(load['options']) if load else ''}",
        f"- Written: {description['written']['time']} by "
        + ", ".join(f"{name} {number}" for name, number in description["written"]["by"].items()),
        "",
    ]


def _options(options: Mapping[str, Any]) -> str:
    return f" with `{json.dumps(options)}`" if options else ""


def _cell(text: str) -> str:
    """Return text that ends neither a table's cell nor its row, and is no markup."""
    return "".join(f"\\{each}" if each in "\\`*_|<>[]#" else each for each in one_line(" ".join(text.split())))
