"""What a model will take, from its folder or from its config alone: its graph is built, and no array is computed."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.nn.layers.quantized import quantize
from mlx_lm.utils import _get_classes

from app.chat.fit import ModelNeeds
from app.engine import attention_patch
from app.engine.fit import needs_of
from app.engine.model_files import read_config
from app.engine.model_folder import context_limit, load_weights
from app.errors import NibbleError

_DTYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}


def folder_needs(path: Path) -> ModelNeeds:
    """Return what the model in `path` will take; no weight is read, only the files' headers. Raises NibbleError."""
    attention_patch.install()
    model, config = load_weights(path, read_config(path), lazy=True)
    return needs_of(model, config, context_limit(config))


def config_needs(text: str) -> ModelNeeds:
    """Return what the model of a config.json (its text) will take on this machine. Raises NibbleError."""
    try:
        config = json.loads(text)
        if not isinstance(config, dict):
            raise TypeError(f"expected an object, got {type(config).__name__}")
        return needs_of(shell_of(config), config, context_limit(config))
    except (Exception, SystemExit) as error:  # some of mlx-lm's modules end the process where a package is missing
        raise NibbleError(f"mlx-lm makes no model of this config: {error}", "Choose another model.") from error


def shell_of(config: dict[str, Any]) -> Any:
    """Return mlx-lm's model of `config`, quantized as it says; its arrays have shapes, and take no memory.

    An output layer stands for itself unless the config ties it: mlx-lm's `sanitize` ties others by what a file lacks.
    """
    attention_patch.install()
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    model.set_dtype(_DTYPES[config.get("torch_dtype") or config.get("dtype") or "bfloat16"])
    if (quantization := config.get("quantization")) is not None:
        group_size = quantization["group_size"]
        quantize(
            model,
            group_size=group_size,
            bits=quantization["bits"],
            mode=quantization.get("mode", "affine"),
            class_predicate=lambda _, m: hasattr(m, "to_quantized") and m.weight.shape[-1] % group_size == 0,
        )
    model.eval()
    return model
