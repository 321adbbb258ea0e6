"""Opening a model folder in mlx-lm's format; every way in which that can fail has its own sentence.

What can be seen without loading is looked at in `model_files`.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import dequantize_model, get_total_parameters, load_model, load_tokenizer
from transformers.utils import logging as transformers_logging

from app.chat.figures import ModelFacts
from app.chat.model_name import model_name
from app.chat.options import GROUP_SIZES, CacheMode
from app.engine import attention_patch, template_sandbox
from app.engine.cache_growth import outlook_of
from app.engine.cache_plan import CachePlan, make_caches, plan_cache
from app.engine.calibration import POSITIONS, Calibration, CalibrationStoppedError, calibrate, start
from app.engine.calibration_store import CalibrationStore, fingerprint
from app.engine.fit import expanded_bytes, has_half_scales, with_work
from app.engine.model_files import read_config, short
from app.engine.prompt import template_fault
from app.errors import NibbleError
from app.resources import calibration_text_path
from kernels import dispatch
from kernels.memory import is_want_of_memory
from kernels.reference import MAX_QUERIES

_log = logging.getLogger(__name__)

_FIRST_TOKENS = (2 * MAX_QUERIES, 2 * MAX_QUERIES, 1)
"""Two chunks, of which the second meets a history, and a decode step."""
_FEW_UNKNOWN = 0.01
"""Share of a tokenizer's tokens that a model need not know: some have a few for pictures, which no text contains."""
_DEFAULT_CONTEXT_TOKENS = 4096
_MISFITS = {
    r"Missing (\d+) parameters: \s*([^\s,]+)": r"\1 tensors are missing, such as \2",
    r"Received (\d+) parameters not in model: \s*([^\s,]+?)[.,]?(\s|$)": r"\1 tensors have no place in it, such as \2",
    r"Expected shape (\(.*?\)) but received shape (\(.*?\)) for parameter (\S+)": r"\3 should be \1 and is \2",
}
"""What MLX says of weights that do not fit, and how to say it."""
_NOTHING_ELSE = {"trust_remote_code": False, "local_files_only": True}
"""For transformers, which else asks on stdin whether to run a tokenizer's own code: stdin is the protocol."""
_CONTEXT_KEYS = ("max_position_embeddings", "max_seq_len", "n_positions", "seq_length", "model_max_length")


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A loaded model with what Nibble found out about it."""

    model: Any
    tokenizer: Any
    facts: ModelFacts
    plan: CachePlan
    """Which layers can be int4, after calibration has had its say."""
    vocabulary: int
    """Tokens that the model knows, from 0 on."""
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
    attention_patch.install()
    template_sandbox.install()
    progress("Reading weights")
    model, config = load_weights(path, config)
    remarks = _prepare_for_cpu(model) if dispatch.backend() == "cpu" else ()
    progress("Reading the tokenizer")
    tokenizer = _load_tokenizer(path, config)
    progress("Trying the int4 cache")
    vocabulary = _try_model(path, model)
    tokenizer_remarks = _try_tokenizer(path, tokenizer, vocabulary)
    plan = plan_cache(model)
    positions = min(POSITIONS, context_limit(config))
    calibration = (
        start(model, plan, positions)
        if calibrating is None
        else _calibration(path, model, tokenizer, plan, positions, calibrating)
    )
    plan = plan.calibrated(calibration)
    progress("Warming up")
    plan = _warm_up(model, plan, calibration)
    weights = list(_weights(model).values())
    facts = ModelFacts(
        name=model_name(path),
        path=str(path),
        architecture=str(config.get("model_type", "")),
        parameters=int(get_total_parameters(model)),
        weight_bytes=sum(w.nbytes for w in weights) + calibration.nbytes,
        layers=len(plan.reasons),
        context_limit_tokens=context_limit(config),
        compute_dtype=_compute_dtype(weights),
        int4_layers=plan.int4_layers,
        notes=plan.notes,
        remarks=(*remarks, *tokenizer_remarks, *calibration.remarks),
        outlook=with_work(outlook_of(model, plan, calibration), model, config, dispatch.backend()),
    )
    return OpenModel(model, tokenizer, facts, plan, vocabulary, calibration)


def load_weights(path: Path, config: dict[str, Any], *, lazy: bool = False) -> tuple[Any, dict[str, Any]]:
    """Return the model and its config; where `lazy`, its weights have shapes and are not read yet.

    Raises NibbleError.
    """
    architecture = config["model_type"]
    try:
        model, config = load_model(path, lazy=lazy)
    except SystemExit as error:
        # Some of mlx-lm's modules end the process where a package is missing.
        raise NibbleError(
            f"mlx-lm's {architecture!r} models need a Python package that Nibble does not have.",
            "Choose another model.",
        ) from error
    except Exception as error:
        raise _why_not_loaded(path, architecture, error) from error
    return model, config


def _why_not_loaded(path: Path, architecture: str, error: Exception) -> NibbleError:
    text = str(error)
    if (isinstance(error, ValueError) and f"Model type {architecture}" in text) or (
        isinstance(error, AttributeError) and error.name in ("Model", "ModelArgs")
    ):
        return NibbleError(f"mlx-lm does not know the architecture {architecture!r}.", "Choose another model.")
    for pattern, sentence in _MISFITS.items():
        if found := re.match(pattern, text):
            return NibbleError(
                f"The weights in {path} are not those of the {architecture!r} model that its config.json describes: "
                f"{found.expand(sentence)}.",
                "Files of two models may be mixed: fetch this model again.",
            )
    if isinstance(error, RuntimeError | OSError):
        if is_want_of_memory(error):
            return NibbleError(f"There is not enough memory to open {path.name}.", "Choose a smaller model.")
        return NibbleError(
            f"The weights in {path} cannot be read: {short(error)}",
            "A file may be cut short or missing: fetch this model again.",
        )
    return NibbleError(
        f"The config.json in {path} does not describe a {architecture!r} model that mlx-lm can build: "
        f"{type(error).__name__}: {short(error)}",
        "Fetch this model again.",
    )


def _prepare_for_cpu(model: Any) -> tuple[str, ...]:
    """Expand 16-bit quantized weights: MLX multiplies them on a CPU some ten times slower than plain ones."""
    if not has_half_scales(model):
        return ()
    if not expanded_bytes(model, "cpu"):
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
        return _without(model, plan, positions, f"failed ({short(error)}).")
    try:
        store.save(model_id, text, made)
    except (OSError, RuntimeError) as error:
        _log.warning("the calibration could not be kept", exc_info=True)
        remark = f"The calibration could not be kept ({short(error)}): it will be made again next time."
        return replace(made, remarks=(*made.remarks, remark))
    return made


def _without(model: Any, plan: CachePlan, positions: int, why: str) -> Calibration:
    remark = f"Calibration {why} Until then int4 is less exact than it could be."
    return replace(start(model, plan, positions), remarks=(remark,))


def _load_tokenizer(path: Path, config: dict[str, Any]) -> Any:
    transformers_logging.set_verbosity_error()  # it warns of long texts; the engine refuses them with its own sentence
    try:
        return load_tokenizer(path, dict(_NOTHING_ELSE), eos_token_ids=config.get("eos_token_id"))
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise NibbleError(
                f"The tokenizer in {path} wants to run Python code of its own, which Nibble never does.",
                "Choose this model with a tokenizer.json, or another model.",
            ) from error
        raise NibbleError(
            f"The tokenizer in {path} cannot be read: {short(error)}",
            "Fetch tokenizer.json and tokenizer_config.json of this model again.",
        ) from error


def _try_model(path: Path, model: Any) -> int:
    """Run a few tokens as mlx-lm does; returns how many tokens the model knows. Raises NibbleError."""
    caches = make_prompt_cache(model)
    try:
        for tokens in _FIRST_TOKENS:
            logits = model(mx.zeros((1, tokens), mx.int32), cache=caches)
            mx.eval(logits)
    except Exception as error:
        _log.warning("mlx-lm cannot run %s", path, exc_info=True)
        raise NibbleError(f"mlx-lm cannot run {path.name} here: {short(error)}", "Choose another model.") from error
    mx.clear_cache()
    return int(logits.shape[-1])


def _try_tokenizer(path: Path, tokenizer: Any, vocabulary: int) -> tuple[str, ...]:
    """Return what is to be said of a tokenizer. Raises NibbleError where it is another model's."""
    known = int(tokenizer.vocab_size)
    if known - vocabulary > known * _FEW_UNKNOWN:
        raise NibbleError(
            f"The tokenizer in {path} has {known:,} tokens, the model knows {vocabulary:,}: it is another model's.",
            "Fetch tokenizer.json and tokenizer_config.json of this model again.",
        )
    remarks = []
    if known < vocabulary // 2:
        remarks.append(
            f"The tokenizer has {known:,} tokens, the model knows {vocabulary:,}: it may be another model's."
        )
    if not tokenizer.has_chat_template:
        remarks.append("This model has no chat template: it reads the plain texts, each after its speaker's name.")
    elif fault := template_fault(tokenizer):
        tokenizer.has_chat_template = False
        remarks.append(
            f"This model's chat template fails ({fault}): it reads the plain texts, each after its speaker's name."
        )
    return tuple(remarks)


def _warm_up(model: Any, plan: CachePlan, calibration: Calibration) -> CachePlan:
    """Run a few tokens in int4: the first use compiles kernels, and no reply should pay for that.

    Returns the plan, without int4 where that fails: a model that runs in fp16 stays usable.
    """
    try:
        for group_size in GROUP_SIZES:
            caches = make_caches(model, plan, CacheMode.INT4, group_size, calibration)
            for tokens in _FIRST_TOKENS:
                mx.eval(model(mx.zeros((1, tokens), mx.int32), cache=caches))
    except Exception as error:
        if is_want_of_memory(error):
            raise
        _log.warning("int4 failed while warming up", exc_info=True)
        return CachePlan(tuple(r or f"its first tokens failed in int4 ({short(error)})" for r in plan.reasons))
    finally:
        mx.clear_cache()
    return plan


def _weights(model: Any) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))


def context_limit(config: dict[str, Any]) -> int:
    """Return the most tokens that a model reads, by its config.json; 4096 where that says nothing."""
    text = config.get("text_config")
    for source in (config, text if isinstance(text, dict) else {}):
        for key in _CONTEXT_KEYS:
            if isinstance(source.get(key), int) and source[key] > 0:
                return int(source[key])
    return _DEFAULT_CONTEXT_TOKENS


def _compute_dtype(weights: list[mx.array]) -> str:
    floats = [w.dtype for w in weights if mx.issubdtype(w.dtype, mx.floating)]
    return str(max(set(floats), key=floats.count)).rpartition(".")[2] if floats else ""
