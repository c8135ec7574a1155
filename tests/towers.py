"""Small encoders of pictures and words, with random weights, as their packages save them."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import safetensors.torch
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

_WEIGHTS = "open_clip_model.safetensors"
_LAYERS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def clip(folder: Path) -> tuple[Any, Any]:
    """Save a CLIP, and return the package's own model and processor."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=[])
    pictures = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    config = transformers.CLIPConfig(
        text_config={
            **_LAYERS,
            "vocab_size": len(tokens),
            "max_position_embeddings": 40,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config={**_LAYERS, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    return _saved(transformers.CLIPModel(config), transformers.CLIPProcessor(pictures, tokenizer), folder)


def siglip(folder: Path) -> tuple[Any, Any]:
    """Save a SigLIP 2 of one size, likewise: its file of tokens does not say that it was trained on small letters."""
    tokens = ["<pad>", "<eos>", "<unk>", *string.ascii_letters, *string.punctuation, "▁"]
    made = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, [], unk_token="<unk>"))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_previous")
    made.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=24
    )
    pictures = transformers.SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2)
    config = transformers.SiglipConfig(
        text_config={**_LAYERS, "vocab_size": len(tokens), "max_position_embeddings": 24, "projection_size": 16},
        vision_config={**_LAYERS, "image_size": 32, "patch_size": 8},
    )
    torch.manual_seed(0)
    model = transformers.SiglipModel(config)
    torch.nn.init.constant_(model.logit_scale, 2.0)
    torch.nn.init.constant_(model.logit_bias, -3.0)
    return _saved(model, transformers.SiglipProcessor(pictures, tokenizer), folder)


def of_open_clip(folder: Path) -> tuple[Any, Any, Any]:
    """Save one of open_clip, and return the package's own model, its way with pictures, and its tokenizer."""
    config = {
        "model_cfg": {
            "embed_dim": 12,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, "head_width": 32},
            "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        },
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3], "interpolation": "bilinear"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    weights = open_clip.create_model(f"local-dir:{folder}", load_weights=False).state_dict()
    safetensors.torch.save_file({name: value.contiguous() for name, value in weights.items()}, folder / _WEIGHTS)
    model, read = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return model.eval(), read, open_clip.get_tokenizer(f"local-dir:{folder}")


def photos(folder: Path) -> list[str]:
    """Draw smooth pictures of several shapes, as JPEG, and return their paths."""
    paths = []
    for number, size in enumerate(((97, 61), (40, 75), (64, 64))):
        coarse = np.random.default_rng(number).integers(0, 256, (5, 6, 3)).astype(np.uint8)
        paths.append(str(folder / f"{number}.jpg"))
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(paths[-1], quality=95)
    return paths


def _saved(model: Any, processor: Any, folder: Path) -> tuple[Any, Any]:
    transformers.utils.logging.disable_progress_bar()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor
