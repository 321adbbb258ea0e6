"""Models of published shapes with random weights: as slow as the real ones, and nothing to download.

Speed and memory follow from shapes alone. mlx-lm's own classes initialize every layer so that its output is about as
large as its normalized input; with embeddings and norms of size 1, activations stay finite and tokens stay different
through all layers, so that the two modes' logits can be compared: coding alone moves them by 1 to 15 percent.
"""

import importlib
from typing import Any

import mlx.core as mx
from mlx.nn.layers.quantized import quantize
from mlx.utils import tree_flatten
from mlx_lm.utils import get_total_parameters

from app.chat.figures import ModelFacts
from app.engine.cache_plan import plan_cache
from app.engine.model_folder import OpenModel
from app.errors import NibbleError

QUANTIZED_BITS = 4
_QUANTIZED_GROUP = 64
_PROBE_TOKENS = (256, 1)
"""MLX multiplies a chunk and a single token by different kernels."""

_LLAMA_ROPE = {
    "rope_type": "llama3",
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
}

SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-1.5b": {
        "model_type": "qwen2",
        "hidden_size": 1536,
        "num_hidden_layers": 28,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
    },
    "gemma-3-1b": {
        "model_type": "gemma3_text",
        "hidden_size": 1152,
        "num_hidden_layers": 26,
        "intermediate_size": 6912,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "rms_norm_eps": 1e-6,
        "vocab_size": 262144,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "query_pre_attn_scalar": 256,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
    },
    "llama-3.2-1b": {
        "model_type": "llama",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "rms_norm_eps": 1e-5,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 5e5,
        "rope_scaling": {**_LLAMA_ROPE, "factor": 32.0},
        "tie_word_embeddings": True,
    },
    "llama-3.1-8b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rms_norm_eps": 1e-5,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 5e5,
        "rope_scaling": {**_LLAMA_ROPE, "factor": 8.0},
        "tie_word_embeddings": False,
    },
}
"""The config.json of each model, as far as its shapes and its speed depend on it."""


def random_model(name: str, config: dict[str, Any], bits: int) -> OpenModel:
    """Return a model of `config`'s shapes in bfloat16, its matrices in 4 bits where `bits` is 4; it has no tokenizer.

    Raises NibbleError where MLX cannot multiply such matrices on this device.
    """
    model = uncomputed_model(config)
    model.set_dtype(mx.bfloat16)
    if bits == QUANTIZED_BITS:
        quantize(model, group_size=_QUANTIZED_GROUP, bits=bits)
    weights: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    for weight in weights.values():  # one at a time, so that no more than one is ever held in float32
        mx.eval(weight)
    model.eval()
    _probe(model, bits)
    plan = plan_cache(model)
    facts = ModelFacts(
        name=name,
        path="",
        architecture=config["model_type"],
        parameters=int(get_total_parameters(model)),
        weight_bytes=sum(w.nbytes for w in weights.values()),
        layers=len(plan.reasons),
        context_limit_tokens=config["max_position_embeddings"],
        compute_dtype="bfloat16",
        int4_layers=plan.int4_layers,
        notes=plan.notes,
        remarks=(f"Random weights, {bits} bits.",),
    )
    return OpenModel(model, None, facts, plan, config["vocab_size"])


def uncomputed_model(config: dict[str, Any]) -> Any:
    """Return mlx-lm's model of `config`, random and in float32; no weight is computed yet."""
    architecture = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    mx.random.seed(0)
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    model.sanitize({})  # where an output layer is tied to the embedding for want of weights, it is tied here
    weights: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    if config["model_type"].startswith("gemma"):  # its norms multiply by 1 + weight
        changed = {name: mx.zeros_like(w) for name, w in weights.items() if "norm" in name}
    else:  # Gemma scales its embedding itself; the others' would drown in what the layers add
        changed = {name: w * config["hidden_size"] ** 0.5 for name, w in weights.items() if "embed_tokens" in name}
    model.load_weights(list(changed.items()), strict=False)
    return model


def _probe(model: Any, bits: int) -> None:
    for tokens in _PROBE_TOKENS:
        try:
            logits = model(mx.arange(tokens)[None])[0, -1].astype(mx.float32)
            spread: Any = mx.std(logits).item()
        except RuntimeError as error:
            if bits != QUANTIZED_BITS:
                raise
            raise NibbleError(
                f"MLX cannot multiply {tokens} tokens by {bits}-bit weights here: {error}", "Run it with --bits 16."
            ) from error
        if not 0 < spread < float("inf"):
            raise RuntimeError(f"[random_model] expected logits that differ and are finite, got a spread of {spread}.")
