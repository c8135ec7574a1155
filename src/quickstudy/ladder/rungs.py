"""The rungs of a ladder, by name.

One of one's own is a ``Rung``, registered: ``RUNGS.register("mine")(OnEmbeddings(...))``.
"""

from __future__ import annotations

from quickstudy.algorithms import STRATEGIES
from quickstudy.ladder.estimators import Estimator, TabICL
from quickstudy.ladder.on_embeddings import Commonest, OnEmbeddings
from quickstudy.ladder.rung import SLOW, Rung
from quickstudy.ladder.training import Contrastive, FineTuned, MetaAdapted, MetaTrained
from quickstudy.registry import Registry

RUNGS: Registry[Rung] = Registry("rung", hint="One of your own is known once it is registered")
"""By name."""

for _name, _rung in {
    "commonest": Commonest("the class that most examples are of", 0, "raw", True),
    "raw_neighbour": OnEmbeddings(
        "nearest neighbour of the inputs themselves, without an encoder", 0, "raw", True, "nearest_neighbour"
    ),
    "names": OnEmbeddings("the names of the classes, without an example", 1, named="alone"),
    "nearest_centroid": OnEmbeddings("nearest class mean of embeddings", 1),
    "names_too": OnEmbeddings("nearest class mean, of which the name of the class is an example", 1, named="too"),
    "nearest_neighbour": OnEmbeddings("nearest neighbour of embeddings", 1, strategy="nearest_neighbour"),
    **{
        f"neighbours{ending}": OnEmbeddings(
            f"ten nearest neighbours of embeddings{told}",
            1,
            strategy="nearest_neighbour",
            options={"neighbours": 10, "projection": projection},
        )
        for ending, told, projection in (
            ("", "", "none"),
            ("_pca", ", projected onto their principal components", "pca"),
            ("_ica", ", projected onto these and scaled, as ICA does", "ica"),
        )
    },
    "linear_probe": OnEmbeddings("logistic regression on embeddings", 1, strategy="linear_probe"),
    "tip_adapter": OnEmbeddings(
        "the names of the classes, corrected by the examples that are near", 1, strategy="tip_adapter", named="too"
    ),
    "bdcspn": OnEmbeddings("class means, corrected by what else is asked", 2, strategy="bdcspn"),
    "tim": OnEmbeddings("answers that are even among the classes, of all that is asked", 2, strategy="tim"),
    "random_forest": Estimator(
        "a random forest of scikit-learn", 3, "raw", options={"n_estimators": 200, "random_state": 0}
    ),
    "lightgbm": Estimator(
        "boosted trees of LightGBM",
        3,
        "raw",
        package="lightgbm",
        name="LGBMClassifier",
        options={"random_state": 0, "verbose": -1, "n_jobs": 1},
    ),
    "tabicl": TabICL(
        "TabICL, a transformer that learns a table as it reads it", SLOW, "raw", options={"random_state": 0}
    ),
    "finetune_last": FineTuned("fine-tuning of the last two stages of the encoder", SLOW, strategy="last"),
    "lora": FineTuned("fine-tuning of additions of rank 8 to the encoder", SLOW, strategy=("lora", 8)),
    "finetune": FineTuned("fine-tuning of the whole encoder", SLOW + 1),
    **{
        name: (MetaAdapted if STRATEGIES[name].adapts_encoder else MetaTrained)(
            f"{told}, meta-trained on other classes",
            SLOW + 1,
            strategy=name,
            options=options,
            of_trained=of_trained,
            by_name=by_name,
        )
        for name, told, options, of_trained, by_name in (
            ("prototypicalnetworks", "class means", {}, {"metric": "cosine", "scale": 15.0}, False),
            ("metaoptnet", "a support vector machine", {}, {}, False),
            ("anil", "a head that takes gradient steps", {"head": "shared"}, {}, False),
            ("maml", "an encoder and a head that take gradient steps", {"head": "shared"}, {}, False),
            ("matchingnetworks", "nearest neighbours that vote", {}, {}, True),
            ("relationnetworks", "a learned comparison with class means", {}, {}, True),
            ("meta_baseline", "class means by scaled cosines", {}, {}, True),
            ("r2d2", "ridge regression", {}, {}, True),
            ("protomaml", "gradient steps from class means", {}, {}, True),
            ("metasgd", "gradient steps of learned rates", {"head": "shared"}, {}, True),
            ("reptile", "gradient steps", {"head": "shared"}, {}, True),
        )
    },
    "contrastive": Contrastive(
        "logistic regression on embeddings of an encoder that was trained to draw each class together", SLOW + 1
    ),
}.items():
    RUNGS.register(_name)(_rung)


def available_rungs(slow: bool = True, domain: str | None = None, meta: bool = False) -> list[str]:
    """Return the names that ``rungs=`` takes, from what costs little to what costs much.

    Args:
        slow: whether those are among them that train the backbone anew.
        domain: only those that are climbed where none are named and the examples are such; None: all.
        meta: whether those are among them that are meta-trained, though ``slow`` is not said.
    """
    names = sorted(RUNGS.names(), key=lambda name: RUNGS[name].cost)
    return [
        name
        for name in names
        if (slow or RUNGS[name].cost < SLOW or (meta and isinstance(RUNGS[name], MetaTrained)))
        and (domain is None or RUNGS[name].usual(domain))
    ]
