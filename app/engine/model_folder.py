"""Opening a model folder in mlx-lm's format; every way in which that can fail has its own sentence."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import dequantize_model, get_total_parameters, load_model, load_tokenizer
from transformers.utils import logging as transformers_logging

from app.chat.figures import ModelFacts
from app.chat.options import GROUP_SIZES, CacheMode
from app.engine import attention_patch, template_sandbox
from app.engine.cache_growth import outlook_of
from app.engine.cache_plan import CachePlan, make_caches, plan_cache
from app.engine.calibration import POSITIONS, Calibration, CalibrationStoppedError, calibrate, start
from app.engine.calibration_store import CalibrationStore, fingerprint
from app.engine.folder_check import check_files, check_weights
from app.engine.machine import machine_facts
from app.errors import NibbleError
from app.resources import calibration_text_path
from kernels import dispatch
from kernels.reference import MAX_QUERIES

_log = logging.getLogger(__name__)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "*.tiktoken", "vocab.json", "vocab.txt")
_DEFAULT_CONTEXT_TOKENS = 4096
_NOTHING_ELSE = {"trust_remote_code": False, "local_files_only": True}
"""For transformers, which else asks on stdin whether to run code that comes with a tokenizer: stdin is the protocol."""
_CONTEXT_KEYS = ("max_position_embeddings", "max_seq_len", "n_positions", "seq_length", "model_max_length")


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A loaded model with what Nibble found out about it."""

    model: Any
    tokenizer: Any
    facts: ModelFacts
    plan: CachePlan
    """Which layers can be int4, after calibration has had its say."""
    calibration: Calibration | None = None
    """The constants of its int4 caches; None for 0 and 1."""


@dataclass(frozen=True, slots=True)
class Calibrating:
    """Where calibrations are kept, and how one in the making is followed and skipped."""

    folder: Path
    report: Callable[[float], None]
    """Told the share that is done, 0 to 1."""
    cancelled: Callable[[], bool]
    """Whether to go on without."""


def open_model(path: Path, progress: Callable[[str], None], calibrating: Calibrating | None = None) -> OpenModel:
    """Load weights and tokenizer from `path` and plan the caches; `progress` is told each step.

    With `calibrating` the model's calibration is read from its folder, or made and kept there; without, the cache works
    with what is known from the weights.

    Nothing of the folder is run: a model that brings Python code of its own is refused. Raises NibbleError.
    """
    config = read_config(path)
    check_weights(path, config)
    attention_patch.install()
    template_sandbox.install()
    progress("Reading weights")
    model, config = _load_weights(path, config)
    remarks = _prepare_for_cpu(model) if dispatch.backend() == "cpu" else ()
    progress("Reading the tokenizer")
    transformers_logging.set_verbosity_error()  # it warns of long texts; the engine refuses them with its own sentence
    try:
        tokenizer = load_tokenizer(path, dict(_NOTHING_ELSE), eos_token_ids=config.get("eos_token_id"))
    except Exception as error:
        raise NibbleError(
            f"The tokenizer in {path} cannot be read: {_short(error)}",
            "Fetch tokenizer.json and tokenizer_config.json of this model again.",
        ) from error
    try:
        return _tried(path, config, model, tokenizer, remarks, progress, calibrating)
    except NibbleError:
        raise
    except Exception as error:
        _log.warning("a model that was read does not run", exc_info=True)
        raise NibbleError(
            f"The model in {path} was read but does not run: {_short(error)}",
            "Its config.json may be damaged: fetch this model again.",
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    """Return a model folder's config.json after looking for what else must be there. Raises NibbleError."""
    if not path.is_dir():
        raise NibbleError(f"There is no folder {path}.", "Choose a folder that holds a model in mlx-lm's format.")
    file = path / "config.json"
    if not file.is_file():
        raise NibbleError(
            f"{path} holds no config.json, so it is no model folder.",
            "Choose the folder that holds config.json and the .safetensors files.",
        )
    check_files(path)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NibbleError(f"{file} cannot be read: {_short(error)}", "Fetch this model again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise NibbleError(f"{file} names no model_type.", "Fetch this model again.")
    if config.get("model_file") is not None:
        raise NibbleError(
            f"{path} wants to run Python code of its own ({config['model_file']}), which Nibble never does.",
            "Choose a model of an architecture that mlx-lm knows.",
        )
    if not any(path.glob("model*.safetensors")):
        raise NibbleError(
            f"{path} holds no weights (model*.safetensors).", "Finish the download, or choose another folder."
        )
    if not any(any(path.glob(name)) for name in _TOKENIZER_FILES):
        raise NibbleError(
            f"{path} holds no tokenizer (tokenizer.json).", "Finish the download, or choose another folder."
        )
    return config


def _tried(
    path: Path,
    config: dict[str, Any],
    model: Any,
    tokenizer: Any,
    remarks: tuple[str, ...],
    progress: Callable[[str], None],
    calibrating: Calibrating | None,
) -> OpenModel:
    """Plan the caches, calibrate and run a few tokens."""
    progress("Trying the int4 cache")
    plan = plan_cache(model)
    positions = min(POSITIONS, _context_limit(config))
    calibration = (
        start(model, plan, positions)
        if calibrating is None
        else _calibration(path, model, tokenizer, plan, positions, calibrating)
    )
    plan = plan.calibrated(calibration)
    progress("Warming up")
    _warm_up(model, plan, calibration)
    weights = list(_weights(model).values())
    facts = ModelFacts(
        name=path.name,
        path=str(path),
        architecture=str(config.get("model_type", "")),
        parameters=int(get_total_parameters(model)),
        weight_bytes=sum(w.nbytes for w in weights) + calibration.nbytes,
        layers=len(plan.reasons),
        context_limit_tokens=_context_limit(config),
        compute_dtype=_compute_dtype(weights),
        int4_layers=plan.int4_layers,
        notes=plan.notes,
        remarks=(*remarks, *calibration.remarks),
        outlook=outlook_of(model, plan, calibration),
    )
    return OpenModel(model, tokenizer, facts, plan, calibration)


def _load_weights(path: Path, config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    try:
        model, config = load_model(path)
    except ValueError as error:
        if "not supported" in str(error):
            raise NibbleError(
                f"mlx-lm does not know the architecture {config['model_type']!r}.", "Choose another model."
            ) from error
        raise NibbleError(
            f"The weights in {path} do not fit its config.json: {_short(error)}", "Fetch this model again."
        ) from error
    except (RuntimeError, OSError) as error:
        raise NibbleError(
            f"The weights in {path} cannot be read: {_short(error)}",
            "A file may be cut short or missing: fetch this model again.",
        ) from error
    except Exception as error:  # a config is anybody's, and an architecture takes it as it is
        raise NibbleError(
            f"The config.json in {path} does not describe a {config['model_type']!r} model: {_short(error)}",
            "Fetch this model again.",
        ) from error
    return model, config


def _prepare_for_cpu(model: Any) -> tuple[str, ...]:
    """Expand 16-bit quantized weights: MLX multiplies them on a CPU some ten times slower than plain ones."""
    weights = _weights(model)
    scales = [w for name, w in weights.items() if name.endswith(".scales") and w.dtype in (mx.bfloat16, mx.float16)]
    if not scales:
        return ()
    expanded_bytes = 2 * int(get_total_parameters(model))
    if expanded_bytes > machine_facts().memory_bytes // 2:
        return ("Slow here: MLX has no fast path for quantized 16-bit weights on this processor.",)
    dequantize_model(model)
    mx.eval(_weights(model))
    return (
        "Weights were expanded to 16 bits for this processor, where MLX has no fast path for quantized ones. "
        "On a GPU they stay as they are.",
    )


def _calibration(
    path: Path, model: Any, tokenizer: Any, plan: CachePlan, positions: int, calibrating: Calibrating
) -> Calibration:
    """Return the kept calibration, or make and keep one; whatever comes between, say it in a remark and go on."""
    text = calibration_text_path().read_text(encoding="utf-8")
    store = CalibrationStore(calibrating.folder)
    try:
        model_id = fingerprint(path)
        if kept := store.load(model_id, text, len(plan.reasons)):
            return kept
        made = calibrate(model, tokenizer, plan, text, calibrating.report, calibrating.cancelled, positions)
    except CalibrationStoppedError:
        return _without(model, plan, positions, "was skipped; it will be offered again when the model is next opened.")
    except Exception as error:
        _log.warning("calibration failed", exc_info=True)
        return _without(model, plan, positions, f"failed ({_short(error)}).")
    try:
        store.save(model_id, text, made)
    except (OSError, RuntimeError) as error:
        _log.warning("the calibration could not be kept", exc_info=True)
        remark = f"The calibration could not be kept ({_short(error)}): it will be made again next time."
        return replace(made, remarks=(*made.remarks, remark))
    return made


def _without(model: Any, plan: CachePlan, positions: int, why: str) -> Calibration:
    remark = f"Calibration {why} Until then int4 is less exact than it could be."
    return replace(start(model, plan, positions), remarks=(remark,))


def _warm_up(model: Any, plan: CachePlan, calibration: Calibration) -> None:
    """Run a few tokens in every mode: the first use compiles kernels, and no reply should pay for that."""
    for mode, group_size in [(CacheMode.FP16, GROUP_SIZES[0]), *((CacheMode.INT4, g) for g in GROUP_SIZES)]:
        caches = make_caches(model, plan, mode, group_size, calibration)
        for tokens in (2 * MAX_QUERIES, 2 * MAX_QUERIES, 1):
            mx.eval(model(mx.zeros((1, tokens), mx.int32), cache=caches))
    mx.clear_cache()


def _weights(model: Any) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))


def _context_limit(config: dict[str, Any]) -> int:
    text = config.get("text_config")
    for source in (config, text if isinstance(text, dict) else {}):
        for key in _CONTEXT_KEYS:
            if isinstance(source.get(key), int) and source[key] > 0:
                return int(source[key])
    return _DEFAULT_CONTEXT_TOKENS


def _compute_dtype(weights: list[mx.array]) -> str:
    floats = [w.dtype for w in weights if mx.issubdtype(w.dtype, mx.floating)]
    return str(max(set(floats), key=floats.count)).rpartition(".")[2] if floats else ""


def _short(error: BaseException) -> str:
    """Return the first line of an error's text, cut to a readable length."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 200 else line[:199] + "…"
