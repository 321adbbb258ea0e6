"""What the fake engine says that a model will take: plain attention of the config's sizes, on a machine of 8 GiB."""

import json
from pathlib import Path
from typing import Any

from app.chat.fit import ModelNeeds
from app.chat.options import GROUP_SIZES
from app.chat.outlook import CacheGrowth, Int4Growth, LayerGrowth, Outlook, WorkingSet
from app.engine.protocol import Estimate
from app.errors import NibbleError

MEMORY_BYTES = 8 * 1024**3


def fake_needs(request: Estimate) -> ModelNeeds:
    """Return needs by the request's config, or by that in its folder. Raises NibbleError where there is none."""
    try:
        text = request.config or (Path(request.path) / "config.json").read_text(encoding="utf-8")
        return _needs(json.loads(text))
    except (OSError, ValueError, KeyError) as error:
        raise NibbleError(f"There is no config to go by: {error}", "Choose another model.") from error


def _needs(config: dict[str, Any]) -> ModelNeeds:
    layers, hidden, wide = (config[k] for k in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    head_size = config.get("head_dim") or hidden // config["num_attention_heads"]
    values = 2 * layers * config["num_key_value_heads"] * head_size
    parameters = layers * (3 * hidden * wide + 2 * hidden * hidden) + config["vocab_size"] * hidden

    def growth(row_bytes: int) -> CacheGrowth:
        return CacheGrowth((LayerGrowth(layers, row_bytes, 256),))

    return ModelNeeds(
        architecture=config["model_type"],
        parameters=parameters,
        stored_bytes=parameters * 9 // 16,
        weight_bytes=parameters * 9 // 16,
        context_limit_tokens=config["max_position_embeddings"],
        layers=layers,
        int4_layers=layers,
        outlook=Outlook(
            fp16=growth(2 * values),
            int4=tuple(Int4Growth(size, growth(values // 2 + 2 * values // size)) for size in GROUP_SIZES),
            memory_bytes=MEMORY_BYTES,
            memory_source="made up by the fake engine",
            work=WorkingSet(256 * 1024**2, 0, 2 * values // layers),
        ),
    )
