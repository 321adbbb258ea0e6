"""Whether a model fits this machine, before its weights are read; the working set is estimated, the rest is counted.

Weights and caches are read off the model's own graph, whose arrays have shapes and no memory yet. What a step holds
beside them, in bytes, for a prefill chunk of L tokens (128 on a CPU, 512 on a GPU) and S tokens of context:

    2 * L * (3 * W + 4 * H) * b     activations: the widest layer three times, the residual stream four times; MLX
                                    begins the next operation before it lets go of the last one's arrays
    + 4 * V * 4                     logits of one token and what sampling makes of them, in float32
    + S * L * Q * 4                 scores of one layer, where MLX has no fused attention for prefill
    + S * R                         one layer's history: copied when mlx-lm's cache grows
    + S * 2 * R                     and in int4 expanded for the chunk, then joined to it

W is the widest output of a linear layer, H the hidden size, V the vocabulary, Q the number of query heads, b the bytes
of an activation and R the bytes of the largest layer's rows in 16 bits. A test holds it against measured peaks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.utils import tree_flatten
from mlx_lm.utils import get_total_parameters

from app.chat.fit import ModelNeeds
from app.chat.options import CacheMode
from app.chat.outlook import SET_BUDGET, Outlook, WorkingSet
from app.chat.shortage import size_text
from app.engine.cache_growth import outlook_of
from app.engine.cache_plan import plan_cache
from app.engine.machine import machine_facts
from app.errors import OverridableError
from kernels import dispatch

FUSED_HEAD_SIZES = (64, 72, 80, 96, 128)
"""Head sizes for which MLX 0.32.4 takes a fused attention kernel for more than 8 queries on Metal (`use_fallback`)."""
_HEAD_KEYS = ("num_attention_heads", "n_head", "n_heads", "num_heads")


def prefill_chunk(backend: str) -> int:
    """Return the tokens that are read at a time: a request to stop is seen between chunks, about as soon on either."""
    return 128 if backend == "cpu" else 512


def needs_of(model: Any, config: dict[str, Any], context_limit: int) -> ModelNeeds:
    """Return what `model`, whose weights need not be there yet, will take on this machine."""
    backend = dispatch.backend()
    stored_bytes = sum(w.nbytes for w in _weights(model).values())
    with _on_the_processor():
        plan = plan_cache(model)
        outlook = with_work(outlook_of(model, plan, None), model, config, backend)
    return ModelNeeds(
        architecture=str(config.get("model_type", "")),
        parameters=int(get_total_parameters(model)),
        stored_bytes=stored_bytes,
        weight_bytes=expanded_bytes(model, backend) or stored_bytes,
        context_limit_tokens=context_limit,
        layers=len(plan.reasons),
        int4_layers=plan.int4_layers,
        outlook=outlook,
    )


def with_work(outlook: Outlook, model: Any, config: dict[str, Any], backend: str) -> Outlook:
    """Return `outlook` with the working set of `model` on `backend`."""
    return replace(outlook, work=_working_set(model, config, outlook, backend))


def expanded_bytes(model: Any, backend: str) -> int:
    """Return what `model`'s weights take once they are expanded to 16 bits, as is done on a CPU; 0 where they stay.

    MLX multiplies quantized 16-bit weights on a CPU some ten times slower than plain ones. Beyond half of the machine's
    memory they stay.
    """
    size = 2 * int(get_total_parameters(model))
    return size if backend == "cpu" and has_half_scales(model) and size <= machine_facts().memory_bytes // 2 else 0


def has_half_scales(model: Any) -> bool:
    """Tell whether `model` has quantized weights that come out in 16 bits."""
    halves = (mx.bfloat16, mx.float16)
    return any(name.endswith(".scales") and w.dtype in halves for name, w in _weights(model).items())


def require_fit(needs: ModelNeeds, name: str, mode: CacheMode, group_size: int) -> None:
    """Raise OverridableError, with the numbers, where a chat of `needs.open_tokens()` tokens in `mode` does not fit."""
    if needs.can_open(mode, group_size):
        return
    tokens = needs.open_tokens()
    kv_bytes = needs.outlook.growth(mode, group_size).bytes_at(tokens)
    parts = (
        f"{size_text(needs.weight_bytes)} for weights, {size_text(kv_bytes)} for the KV cache in {mode.value} and "
        f"{size_text(needs.outlook.work.bytes_at(tokens, mode))} to work in"
    )
    message = (
        f"{name} does not fit in memory here: a chat of {tokens:,} tokens takes "
        f"{size_text(needs.bytes_at(tokens, mode, group_size))} ({parts}), and Nibble can use "
        f"{size_text(needs.budget_bytes)} ({needs.outlook.memory_source})."
    )
    higher = " Or raise the memory budget in Settings." if needs.outlook.memory_source == SET_BUDGET else ""
    raise OverridableError(message, _way_out(needs, mode, group_size) + higher)


def _way_out(needs: ModelNeeds, mode: CacheMode, group_size: int) -> str:
    own, int4 = needs.longest(mode, group_size), needs.longest(CacheMode.INT4, group_size)
    if mode is CacheMode.FP16 and int4 > own:
        in_fp16 = f"Up to {own:,} tokens would fit in fp16" if own else "No context would fit in fp16"
        return f"{in_fp16}, up to {int4:,} tokens in int4: have new chats start in int4, or choose a smaller model."
    if own:
        return f"Up to {own:,} tokens would fit. Choose a smaller model, or close other programs and open it anyway."
    if needs.weight_bytes > needs.budget_bytes:
        return "The weights alone are too large, in either mode. Choose a smaller model."
    return "No context fits, in either mode. Choose a smaller model."


@contextmanager
def _on_the_processor() -> Iterator[None]:
    """Build graphs for the CPU: for a GPU every new shape would first compile and try its kernels there."""
    before = mx.default_device()
    mx.set_default_device(mx.Device(mx.cpu))
    try:
        yield
    finally:
        mx.set_default_device(before)


def _working_set(model: Any, config: dict[str, Any], outlook: Outlook, backend: str) -> WorkingSet:
    vocabulary, hidden, widest = _sizes(model)
    heads = _number(config, _HEAD_KEYS) or max(1, hidden // FUSED_HEAD_SIZES[0])
    head_size = _number(config, ("head_dim",)) or hidden // heads
    chunk, value_bytes = prefill_chunk(backend), _value_bytes(model)
    is_fused = backend != "cpu" and head_size in FUSED_HEAD_SIZES
    scores = 0 if is_fused else chunk * heads * 4
    row = max((part.row_bytes // part.layers for part in outlook.fp16.parts), default=0)
    return WorkingSet(
        fixed_bytes=2 * chunk * (3 * widest + 4 * hidden) * value_bytes + 4 * vocabulary * 4,
        fp16_token_bytes=scores + row,
        int4_token_bytes=scores + 3 * row,
    )


def _sizes(model: Any) -> tuple[int, int, int]:
    """Return the vocabulary, the hidden size, and the widest output of a layer that is no vocabulary."""
    vocabulary = hidden = 0
    outputs: list[int] = []
    for module in model.modules():
        weight = module.get("weight") if isinstance(module, Module) else None
        if not isinstance(weight, mx.array) or weight.ndim < 2:
            continue
        if hasattr(module, "as_linear"):
            scales = module.get("scales")
            columns = weight.shape[1] if scales is None else scales.shape[1] * module.group_size
            if weight.shape[0] > vocabulary:
                vocabulary, hidden = weight.shape[0], columns
        else:
            outputs.append(weight.shape[-2])
    return vocabulary, hidden, max((o for o in outputs if o != vocabulary), default=hidden)


def _value_bytes(model: Any) -> int:
    floats = [w.dtype.size for w in _weights(model).values() if mx.issubdtype(w.dtype, mx.floating)]
    return max(set(floats), key=floats.count) if floats else 2


def _number(config: dict[str, Any], keys: tuple[str, ...]) -> int:
    text = config.get("text_config")
    for source in (config, text if isinstance(text, dict) else {}):
        for key in keys:
            if isinstance(source.get(key), int) and source[key] > 0:
                return int(source[key])
    return 0


def _weights(model: Any) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))
