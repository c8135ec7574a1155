"""Meta-training an encoder on examples of other classes than those that are asked, once for all draws.

Shapes: N examples, D features.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.data.origins import Origins
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, few, one_line
from quickstudy.files import atomic_write
from quickstudy.ladder.draws import held_apart
from quickstudy.ladder.examples import Embedded, Others, domain_of, repeatable
from quickstudy.ladder.finetuning import copied, last_stages, of_domain, run
from quickstudy.ladder.opening import Named, examples_of, opened
from quickstudy.learning.checks import Finding, also_among, repetitions
from quickstudy.learning.embeddings import embeddings, identity_of
from quickstudy.modality import Modality
from quickstudy.nets import Encoder
from quickstudy.signatures import options_of

META = "meta-trained"
"""The folder of the weights, in that of the ladder."""
STEPS, STEPS_FROM_NOTHING = 60, 400
"""Of one episode each: of an encoder that has trained weights, and of one that has none."""
_WAYS, _SHOTS, _QUERIES = 12, 1, 4  # of an episode whose classes share what they are embedded by
_ADAPTED_SHOTS, _ADAPTED_QUERIES = 5, 5  # of one that gradient steps adapt to, of as many ways as are asked
_RATE, _BACKBONE_RATE = 1e-3, 5e-5  # AdamW's; from nothing all of it at the first
_LAST = 2  # stages of an encoder with trained weights that adapt, unless it says so itself


@dataclass(frozen=True)
class Plan:
    """How an encoder is meta-trained.

    Args:
        options: of the strategy and its episodes.
        strategy: what of the encoder trains, as ``Trainer.finetune`` takes it.
        told: the training in words.
    """

    options: Mapping[str, Any]
    strategy: Any
    told: str


def others_of(
    meta_train: Any,
    asked: Table,
    modality: Modality,
    ways: int,
    seed: int | None,
    named: Named,
    origins: Origins | None = None,
    used: bool = True,
) -> tuple[Others | None, list[Finding], str]:
    """Return what an encoder may learn from before it is asked, what was found in it, and its name and fingerprint.

    Args:
        meta_train: examples of other classes, as ``opened`` takes them; None: half of the classes that are there, where
            these are enough.
        asked: the examples of the ladder.
        modality: what inputs are.
        ways: classes of an episode.
        seed: divides the classes; None: they are not divided.
        named: what is said of the data.
        origins: what the examples come from, as the data says it.
        used: whether any rung is going to learn from half of the classes; if not, nobody looks at that half.

    Raises:
        ConfigError: the others are of another domain, or fewer than two classes of them are not asked.
        DataError: they have no class each.
    """
    from quickstudy.training.datamodule import DataModule  # Lightning takes long to import, and help needs none

    if meta_train is None:
        held = () if seed is None else held_apart(asked, ways, seed)
        if not held:
            return None, [], ""
        rest = sorted({*range(len(asked.classes))} - {*held})
        if not used:
            return Others(asked.only(rest), ways, held), [], ""
        known = replace(asked, origins=origins)
        return *apart_from(known.only(held), asked.only(rest), modality, ways, held, known.only(rest).origins), ""
    said: Named = {} if isinstance(meta_train, DataModule) else {**named}
    if not isinstance(meta_train, DataModule) and (domain := domain_of(modality)):
        said["domain"] = domain
    module = opened(meta_train, **said)
    if type(module.modality) is not type(modality):
        raise ConfigError(f"meta_train has {module.modality.called}, and the data has {modality.called}")
    table = examples_of(module)
    others, findings = apart_from(replace(asked, origins=origins), table, modality, ways)
    if origins is not None and table.origins is None:
        told = "the data's examples come from groups, and those to meta-train on name none"
        advice = "whether a group has examples in both could not be checked: name theirs by group_field= or group_by="
        findings = [*findings, Finding("others", f"{told}: {advice}")]
    name = str(meta_train) if isinstance(meta_train, (str, os.PathLike)) else type(meta_train).__name__
    return others, findings, f"{name} ({table.fingerprint})"


def apart_from(
    asked: Table,
    others: Table,
    modality: Modality,
    ways: int,
    held: tuple[int, ...] = (),
    origins: Origins | None = None,
) -> tuple[Others, list[Finding]]:
    """Return what of other examples an encoder may learn from that is asked about these, and what was left out.

    Classes of the same name (in another case, number, with other blanks) are left out, and examples that are nearly the
    same as one that is asked, or come from what one of those comes from.

    Args:
        asked: the examples of the ladder.
        others: what there is to meta-train on.
        modality: what inputs are.
        ways: classes of an episode.
        held: the codes of the classes that are asked, where the others are the rest of the same data: their names tell
            them apart already, and where too little is left the rungs are not climbed.
        origins: what the others come from, where those of their table hold near copies together, too.

    Raises:
        ConfigError: of other data fewer than two classes of two examples are left.
    """
    both = [] if held else also_among(others.classes, asked.classes)
    findings = []
    if both:
        told = f"{len(both)} of {len(others.classes)} classes to meta-train on are among those that are asked"
        some = few(f"'{one_line(name)}'" for name in both)
        findings.append(Finding("others", f"{told}: {some}. They are left out of the meta-training"))
    rest = others.only([code for code, name in enumerate(others.classes) if name not in both])
    same = of_one = np.zeros(len(rest), np.bool_)
    if len(rest):
        same = repetitions({"asked": asked, "others": rest}, modality)[1][len(asked) :] < len(asked)
    sources = rest.origins if origins is None else origins
    if len(rest) and asked.origins is not None and sources is not None:
        shared = {*also_among(sources.present, asked.origins.present)}
        of_one = np.array([name in shared for name in sources.names])[sources.codes]
    count = len(_several(rest.select(np.flatnonzero(~same))))
    if count < 2 and not held:
        raise ConfigError(
            f"meta_train has {count} classes of two examples or more that are not among those that are asked, "
            "and it takes two: name a folder of other classes"
        )
    left = rest.select(np.flatnonzero(~same & ~of_one))
    several = _several(left)
    if len(several) < 2:
        what = " that are no near copies of what is asked" if same.any() else ""
        what += (" and" * bool(what) + " of other groups than what is asked") if of_one.any() else ""
        lacking = f"{len(several)} classes to meta-train on have two examples{what}, and it takes two"
        where = "other classes and other groups" if of_one.any() else "other classes"
        return Others(left, ways, held, f"{lacking}: give --meta_train with examples of {where}"), findings
    for which, why in ((same, "are nearly the same as some"), (of_one & ~same, "come from groups of some")):
        if which.any():
            told = f"{int(which.sum())} {modality.called} to meta-train on {why} that are asked"
            findings.append(Finding("others", f"{told}. They are left out of the meta-training"))
    return Others(left.only(several), ways, held), findings


def _several(table: Table) -> list[int]:
    """Return the codes of the classes that have two examples or more."""
    found: list[int] = np.flatnonzero(table.index.counts > 1).tolist()
    return found


def planned(examples: Embedded, name: str, given: Mapping[str, Any]) -> Plan:
    """Return how a strategy's encoder is meta-trained on the others of examples.

    Args:
        examples: all of them, with others.
        name: of the strategy.
        given: its options.
    """
    assert examples.others is not None
    others, encoder, made_by = examples.others, examples.encoder, STRATEGIES[name]
    most_C, options = np.sort(others.table.index.counts)[::-1], dict(given)
    if "adaptation_steps" in options_of(made_by, Algorithm):
        ways, shots, queries = others.ways, _ADAPTED_SHOTS, _ADAPTED_QUERIES
    else:
        ways, shots, queries = max(others.ways, _WAYS), _SHOTS, _QUERIES
    ways = min(ways, len(most_C))
    least = int(most_C[ways - 1])  # examples, two at least, that so many classes have
    shots = min(shots, least // 2)
    queries = min(queries, least - shots)
    if encoder.trained and made_by.adapts_encoder and not hasattr(encoder.backbone, "adaptation_layers"):
        options["adaptation_layers"] = _LAST
    steps = STEPS if encoder.trained else STEPS_FROM_NOTHING
    options |= {"ways": ways, "shots": shots, "queries": queries, "meta_batch_size": 1, "epoch_length": steps}
    return Plan(
        options,
        last_stages(encoder.backbone) if encoder.trained else "no_freeze",
        f"meta-training on {len(others.table)} {examples.knowledge.modality.called} of {len(others.table.classes)} "
        f"other classes: {steps} episodes of {ways} classes, {shots + queries} of each",
    )


def meta_trained(examples: Embedded, name: str, plan: Plan, folder: Path | None = None) -> Embedded:
    """Return the examples as an encoder embeds them that was meta-trained on others; who learns is what trained it.

    Args:
        examples: all of them, with others.
        name: of the strategy.
        plan: what ``planned`` returned.
        folder: where the weights are kept, and found again; None: they are not.

    Raises:
        DataError: the others cannot make the episodes.
        KeyboardInterrupt: it was stopped.
        TrainingError: the loss is no number.
    """
    assert examples.others is not None
    encoder, modality, table = copied(examples), examples.knowledge.modality, examples.others.table
    about = {
        "of": identity_of(examples.encoder, modality),
        "on": table.fingerprint,
        "by": name,
        "options": dict(plan.options),
        "trains": plan.strategy,
    }
    told = hashlib.blake2b(json.dumps(about).encode(), digest_size=8).hexdigest()
    file = None if folder is None or about["of"] is None else folder / f"{name}-{told}.safetensors"
    found = None if file is None else _read(file, about, encoder, name)
    if found is None:
        from quickstudy.training.datamodule import DataModule  # Lightning takes long to import, and help needs none
        from quickstudy.training.task import Classifier

        began = time.perf_counter()
        needed = plan.options["shots"] + plan.options["queries"]
        some = table.only(np.flatnonzero(table.index.counts >= needed).tolist())
        with repeatable():
            task = of_domain(examples, Classifier)(
                backbone=encoder,
                training_strategy=name,
                training_strategy_kwargs=dict(plan.options),
                optimizer="AdamW",
                learning_rate=_RATE,
                backbone_lr=_BACKBONE_RATE if encoder.trained else None,
            )
            steps = plan.options["epoch_length"]
            run(task, of_domain(examples, DataModule)(some), plan.strategy, steps, examples.encoder.device)
        found = task.encoder, task.algorithm, time.perf_counter() - began
        if file is not None:
            _write(file, about, *found)
    encoder, algorithm, seconds = found
    for part in (encoder, algorithm):
        part.eval().requires_grad_(False)
    began, values = time.perf_counter(), examples.values
    if not algorithm.adapts_encoder:
        values = torch.from_numpy(np.array(embeddings(encoder, modality, examples.table.inputs, keep=False)))
    return replace(
        examples,
        knowledge=replace(examples.knowledge, encoder=encoder, algorithm=algorithm),
        values=values,
        seconds=time.perf_counter() - began,
        training_seconds=seconds,
    )


def _write(file: Path, about: Mapping[str, Any], encoder: Encoder, algorithm: Algorithm, seconds: float) -> None:
    parts = {"encoder": encoder, "algorithm": algorithm}
    tensors = {
        f"{part}.{name}": value.detach().cpu().clone().contiguous()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    met = {
        "options": algorithm.options,
        "shape": algorithm.feature_shape,
        "ways": algorithm.ways,
        "fed": encoder.fed,
        "seconds": seconds,
    }
    with atomic_write(file) as written:
        written.write(safetensors.torch.save(tensors, {"about": json.dumps(about), "met": json.dumps(met)}))


def _read(file: Path, about: Mapping[str, Any], encoder: Encoder, name: str) -> tuple[Encoder, Algorithm, float] | None:
    """Return what was meta-trained before, in the same way on the same; None where nothing was."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as opened:
            told = opened.metadata()
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - it is no mapping
    except SafetensorError:
        return None
    if told.get("about") != json.dumps(about):
        return None
    met = json.loads(told["met"])
    algorithm = STRATEGIES[name](**met["options"])
    algorithm.meet(encoder, tuple(met["shape"]), met["ways"])
    for part, module in {"encoder": encoder, "algorithm": algorithm}.items():
        of = f"{part}."
        module.load_state_dict({key.removeprefix(of): each for key, each in tensors.items() if key.startswith(of)})
    encoder.fed = met["fed"]
    return encoder, algorithm, met["seconds"]
