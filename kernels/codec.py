"""How one layer's keys and values become codes: layout, rotation, centring, smoothing and lambda, bundled."""

from dataclasses import dataclass, field

import mlx.core as mx

from kernels.lanes import HEAD_SIZES, circle, lane_constants
from kernels.layout import Layout
from kernels.rotation import Rotation, RotationKind


@dataclass(frozen=True, slots=True, eq=False)
class Codec:
    """What turns rows into codes and back, for keys and values of one layer.

    A row x is coded as `Q(lambda * R(x - mu))`, a key as `Q(lambda * R((x - mu) / smooth))`: queries are multiplied by
    `smooth` in turn, and inner products stay what they are. Keys stand at index 0 of `mu` and `lam`, values at index 1.

    Shapes: `mu` and `lam` are `[2, Hk, D]` and `smooth` is `[Hk, D]`, float32 or None (0, 1 and 1). `lam` and `smooth`
    must be positive (floor `lam` at 1e-6).
    """

    rotation: Rotation
    group_size: int
    mu: mx.array | None = None
    lam: mx.array | None = None
    smooth: mx.array | None = None
    layout: Layout = field(init=False)
    _tables: dict[float | None, mx.array] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", Layout(self.rotation.dim, self.group_size))
        for name, value in (("mu", self.mu), ("lam", self.lam)):
            if value is not None and (value.ndim != 3 or value.shape[0] != 2 or value.shape[2] != self.rotation.dim):
                raise ValueError(
                    f"[codec] {name} must have shape [2, kv heads, {self.rotation.dim}], got {list(value.shape)}."
                )
        if self.smooth is not None and (self.smooth.ndim != 2 or self.smooth.shape[1] != self.rotation.dim):
            raise ValueError(
                f"[codec] smooth must have shape [kv heads, {self.rotation.dim}], got {list(self.smooth.shape)}."
            )

    @property
    def nbytes(self) -> int:
        """Bytes of the layer's own constants; the rotation's matrix is shared by all layers and not counted."""
        return sum(a.nbytes for a in self._constants)

    def table(self, query_scale: float | None = None) -> mx.array:
        """Return what the fused kernels read, float32.

        That is cos and sin of 2 pi n / D, the signs, mu, lambda and smooth where there are any. For a step, which has a
        `query_scale`, there follow with lambda the most that it enlarges a query's value by in each head, the factor
        that queries get (softmax scale times log2 e), and from the next multiple of four on what each lane needs
        (`kernels.lanes`, for its head sizes). It is computed where MLX computes: an array made from Python's numbers
        stays in the host's memory, and every threadgroup would wait for it. The host does not wait for it: every layer
        of a new chat has one.
        """
        if query_scale not in self._tables:
            dim = self.rotation.dim
            parts = [circle(dim), self.rotation.signs, *(constant.reshape(-1) for constant in self._constants)]
            if query_scale is not None:
                if self.lam is not None:
                    parts.append((1 / self.lam[0]).max(axis=-1))
                parts.append(mx.array([query_scale]))
                if dim in HEAD_SIZES:
                    parts += [mx.zeros(-sum(part.size for part in parts) % 4), lane_constants(self.rotation.signs)]
            self._tables[query_scale] = mx.concatenate(parts)
            mx.async_eval(self._tables[query_scale])  # type: ignore[no-untyped-call]
        return self._tables[query_scale]

    @property
    def _constants(self) -> list[mx.array]:
        return [a for a in (self.mu, self.lam, self.smooth) if a is not None]


def make_codec(head_dim: int, group_size: int, layer: int, kind: RotationKind = RotationKind.SRFT) -> Codec:
    """Return a codec without calibration (mu 0, lambda and smooth 1) whose signs are the layer's own."""
    return Codec(Rotation(kind, head_dim, layer), group_size)
