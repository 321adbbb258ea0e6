"""NumPy's products are MLX's."""

import mlx.core as mx
import mlx.nn as nn
import pytest

from tests.numpy_products import attention, linear, logits


@pytest.mark.parametrize("bias", [False, True])
def test_linear_layers_and_logits(bias: bool) -> None:
    x = mx.random.normal((1, 5, 24), key=mx.random.key(0))
    layer, embedding = nn.Linear(24, 16, bias=bias), nn.Embedding(30, 24)
    assert mx.allclose(linear(layer, x), layer(x), atol=1e-5).item()
    assert mx.allclose(logits(embedding, x), embedding.as_linear(x), atol=1e-5).item()
    assert linear(layer, x.astype(mx.bfloat16)).dtype == mx.bfloat16


@pytest.mark.parametrize("kind", ["none", "causal", "bool", "added"])
def test_attention(kind: str) -> None:
    q = mx.random.normal((1, 6, 5, 32), key=mx.random.key(1))
    k, v = mx.random.normal((2, 1, 2, 9, 32), key=mx.random.key(2))
    seen = mx.arange(4, 9)[:, None] >= mx.arange(9)
    masks = {"none": None, "causal": "causal", "bool": seen, "added": mx.where(seen, 0.5, -1e9)}
    right = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.2, mask=masks[kind])
    assert mx.allclose(attention(q, k, v, scale=0.2, mask=masks[kind]), right, atol=1e-5).item()


def test_sinks_are_refused() -> None:
    x = mx.zeros((1, 1, 1, 8))
    with pytest.raises(ValueError, match="sinks"):
        attention(x, x, x, scale=1.0, sinks=mx.zeros(1))
