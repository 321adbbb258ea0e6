"""Tiny random models made from mlx-lm's own classes, in memory or as a folder that mlx-lm can open."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 256 + len(SPECIAL)

_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 258,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2": {"hidden_size": 128},
    "qwen3": {},
    "llama": {},
    "mistral": {"head_dim": 64},
    "phi3": {"hidden_size": 128},
    "gemma3_text": {
        "num_hidden_layers": 4,
        "sliding_window": 32,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 512,  # its normalized queries and keys would make attention one-hot
        "rope_local_base_freq": 10000.0,
    },
}
"""What each architecture sets apart from the common part. mlx-lm opens `mistral` as `llama`."""


def config_of(model_type: str, **overrides: Any) -> dict[str, Any]:
    return {**_COMMON, "model_type": model_type, **CONFIGS.get(model_type, {}), **overrides}


def build_model(model_type: str, seed: int = 0, **overrides: Any) -> Module:
    """Return a random float32 model whose attention is sharp enough for a wrong key to show."""
    config = config_of(model_type, **overrides)
    model_class, args_class = _get_classes(config)
    mx.random.seed(seed)
    model = model_class(args_class.from_dict(config))
    sharper = [(name, weight * 3) for name, weight in tree_flatten(model.parameters()) if "q_proj" in name]
    model.load_weights(sharper, strict=False)
    model.eval()
    mx.eval(model.parameters())
    return model  # type: ignore[no-any-return]


def write_tiny_model(folder: Path, model_type: str = "qwen2", **overrides: Any) -> Path:
    """Write a random model with a byte-level tokenizer and a ChatML template into `folder`; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(model_type, **overrides)
    model = build_model(model_type, **overrides)
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), metadata={"format": "mlx"}
    )
    (folder / "config.json").write_text(json.dumps(config))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>",
                "bos_token": None,
                "model_max_length": 2048,
                "clean_up_tokenization_spaces": False,
                "additional_special_tokens": SPECIAL[1:],
                "chat_template": template,
            }
        )
    )
    return folder
