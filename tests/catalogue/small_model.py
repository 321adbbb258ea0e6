"""A model of two shards, small and random, as a repository holds it; beside it what must never be fetched."""

import json
import random
import struct

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
FETCHED = {
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "merges.txt",
    INDEX,
    *SHARDS,
}


def safetensors(name: str, nbytes: int, seed: int = 0) -> bytes:
    """Return a safetensors file with one tensor of `nbytes` random bytes."""
    header = json.dumps({name: {"dtype": "U8", "shape": [nbytes], "data_offsets": [0, nbytes]}}).encode()
    return struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(nbytes)


def files(shard_bytes: int = 300_000) -> dict[str, bytes]:
    """Return the files of the repository by name."""
    weights = {"a.weight": SHARDS[0], "b.weight": SHARDS[1]}
    made = {
        "config.json": json.dumps({"model_type": "qwen3"}).encode(),
        "tokenizer.json": b"{" + b" " * 12_000 + b"}",
        "tokenizer_config.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
        "merges.txt": b"",
        INDEX: json.dumps({"metadata": {}, "weight_map": weights}).encode(),
    }
    for seed, (tensor, shard) in enumerate(weights.items()):
        made[shard] = safetensors(tensor, shard_bytes, seed)
    unsafe = ("modeling.py", "pytorch_model.bin", "consolidated.safetensors", "x.pt", "sub/config.json", "../evil.json")
    return made | dict.fromkeys((*unsafe, ".gitattributes"), b"never")
