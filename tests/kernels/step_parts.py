"""A decode step of random rows, and what it is held to, for the tests of the kernels and of who engages them."""

import mlx.core as mx
import numpy as np

from kernels import dispatch, fused, reference
from kernels.bench.check import SCALE_ULP
from kernels.codec import Codec
from kernels.cuts import Cut
from kernels.rotation import Rotation, RotationKind

MOST_DIFFERING_CODES = 1e-4
MOST_RELATIVE_ERROR = 2.5e-3
"""Of a bfloat16 result; its own rounding is 1.7e-3 of that."""


def codec_of(head_dim: int, group_size: int, heads: int, calibrated: bool) -> Codec:
    rng = np.random.default_rng(head_dim)
    mu = mx.array(rng.normal(0, 1, (2, heads, head_dim)), mx.float32) if calibrated else None
    lam = mx.array(rng.uniform(0.5, 2, (2, heads, head_dim)), mx.float32) if calibrated else None
    smooth = mx.array(rng.uniform(0.5, 2, (heads, head_dim)), mx.float32) if calibrated else None
    return Codec(Rotation(RotationKind.SRFT, head_dim, 3), group_size, mu, lam, smooth)


def nibbles(codes: mx.array) -> np.ndarray:
    return (np.array(codes)[..., None] >> np.arange(0, 32, 4, dtype=np.uint32)) & 15


def relative(got: mx.array, right: mx.array) -> float:
    got, right = got.astype(mx.float32), right.astype(mx.float32)
    return float(mx.linalg.norm(got - right) / mx.linalg.norm(right))


class Step:
    """A decode step of random rows: buffers whose rows after the old tokens hold large codes and NaN scales."""

    def __init__(
        self,
        heads: tuple[int, int, int],
        before: int,
        new: int = 1,
        *,
        group_size: int = 32,
        calibrated: bool = False,
        capacity: int = 1024,
        window: int = 0,
        dtype: mx.Dtype = mx.bfloat16,
    ) -> None:
        self.query_heads, self.kv_heads, D = heads
        self.before, self.new, self.window = before, new, window
        self.codec = codec_of(D, group_size, self.kv_heads, calibrated)
        self.scale = D**-0.5
        rows = mx.random.normal((2, 1, self.kv_heads, before + new, D), key=mx.random.key(4)).astype(dtype)
        self.queries = mx.random.normal((1, self.query_heads, new, D), key=mx.random.key(5)).astype(dtype)
        self.keys, self.values = rows[0, :, :, before:], rows[1, :, :, before:]
        self.all_codes, self.all_scales = reference.quantize(self.codec, rows)
        layout = self.codec.layout
        self.codes = mx.full((2, 1, self.kv_heads, capacity, layout.words), 0xF0F0F0F0, mx.uint32)
        self.scales = mx.full((2, 1, self.kv_heads, capacity, layout.groups), float("nan"), mx.float16)
        ring = window or capacity
        for at in range(max(0, before - ring), before):
            self.codes[..., at % ring, :] = self.all_codes[..., at, :]
            self.scales[..., at % ring, :] = self.all_scales[..., at, :]
        mx.eval(self.codes, self.scales)

    def run(self, mask: mx.array | str | None = None, cut: Cut | None = None) -> mx.array:
        result, position = fused.append_and_attend(
            self.codec,
            "metal",
            self.queries,
            self.keys,
            self.values,
            self.codes,
            self.scales,
            dispatch.start_position(self.before),
            self.before + self.new,
            self.scale,
            mask,
            self.window,
            cut,
        )
        assert position[0].item() == self.before + self.new
        return result

    def run_again(self, mask: mx.array | str | None = None, cut: Cut | None = None) -> mx.array:
        """Attend on what `run` has left."""
        tokens = self.before + self.new
        buffers = (self.codes, self.scales, dispatch.start_position(tokens), tokens, self.scale)
        result, position = fused.attend(self.codec, "metal", self.queries, *buffers, mask, self.window, cut)
        assert position[0].item() == tokens
        return result

    def right(self, mask: mx.array | str | None = None) -> mx.array:
        """The reference, in float32, on the tokens that a ring still holds."""
        first = max(0, self.before + self.new - self.window) if self.window else 0
        coded = (self.all_codes[..., first:, :], self.all_scales[..., first:, :])
        mask = "causal" if mask is None and self.new > 1 else mask
        return reference.attend(self.codec, self.queries.astype(mx.float32), *coded, self.scale, mask)

    def check_written(self) -> None:
        """The new rows hold the reference's codes, and no other row has changed."""
        ring = self.window or self.codes.shape[3]
        rows = [(self.before + i) % ring for i in range(self.new)]
        got = nibbles(self.codes[..., mx.array(rows), :])
        assert (got != nibbles(self.all_codes[..., self.before :, :])).mean() <= MOST_DIFFERING_CODES
        scales, right = self.scales[..., mx.array(rows), :], self.all_scales[..., self.before :, :]
        ratios = np.array(scales, np.float32) / np.array(right, np.float32)
        # On the edge between two float16 a scale may fall to either.
        assert np.abs(ratios - 1).max() <= SCALE_ULP
        assert (ratios != 1).sum() <= 1 + 0.01 * ratios.size
