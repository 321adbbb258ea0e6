"""The int4 format in one place: bits, nibble order, scale type, packed shapes, bytes.

A row is one head's key or value of one token: `D` values. After centring, rotation and lambda it is cut into groups of
`G` values along `D`; a group has one float16 scale and every value a code from -8 to 7 (`value = scale * code`). The
scale has a sign: the value of largest magnitude gets the code -8, whichever side it is on. Coding tries a few scales
next to the one by which that value is exact, and takes the one by which the group's squared error is least.
Codes are nibbles `code + 8`, eight to a uint32 word, value `8 w + i` of the row in bits `4 i .. 4 i + 3` of word `w`.
That is the order of MLX's own affine packing: `mx.quantized_matmul` and `mx.dequantize` read such words as they are,
with `bias = -8 * scale`.

Words and scales are stored in that order, but for rows of 128 and 256 values, where their units of 64 values stand
interleaved: the first word of all units, then the second of all, and so on; scales likewise. What a lane of the fused
step needs of a row, one word of each unit, then stands together, and it reads 16 bytes at a time instead of 4.
`kernels.reference.interleave` and `in_order` go from one order to the other.

A head size that is no multiple of `G` ends in a shorter group, one that is no multiple of 8 in zero codes.
"""

from dataclasses import dataclass

import mlx.core as mx

BITS = 4
CODES_PER_WORD = 32 // BITS
MIN_CODE = -8
MAX_CODE = 7
CODE_OFFSET = 8
"""What is added to a code to make it a nibble; a nibble of 8 is the value 0."""
ZERO_WORD = 0x88888888
"""Eight codes of value 0."""
SCALE_DTYPE = mx.float16
SCALE_CHOICES = (1.0, 61 / 64, 58 / 64, 70 / 64)
"""The scales that are tried, in this order, as shares of the one by which the value of largest magnitude is exact."""
SMALLEST_TRIED = 2.0**-13
"""Of a smaller scale only the first choice is taken: float16 holds the others with few bits, or none."""
GROUP_SIZES = (32, 64)
UNIT = 64
"""Values of a unit."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Packed shapes and bytes of rows of `head_dim` values with one scale for `group_size` of them.

    Raises ValueError for a head size that is not even and positive, or a group size that is not offered.
    """

    head_dim: int
    group_size: int

    def __post_init__(self) -> None:
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"[layout] head size must be even and at least 2, got {self.head_dim}.")
        if self.group_size not in GROUP_SIZES:
            raise ValueError(f"[layout] group size must be one of {GROUP_SIZES}, got {self.group_size}.")

    @property
    def words(self) -> int:
        """uint32 words of codes in a row."""
        return -(-self.head_dim // CODES_PER_WORD)

    @property
    def groups(self) -> int:
        """float16 scales in a row."""
        return -(-self.head_dim // self.group_size)

    @property
    def units(self) -> int:
        """How many units of words and scales stand interleaved in a row; 1: they are in order."""
        return self.head_dim // UNIT if self.head_dim in (2 * UNIT, 4 * UNIT) else 1

    @property
    def padded_dim(self) -> int:
        """Head size rounded up to whole groups."""
        return self.groups * self.group_size

    @property
    def padded_words(self) -> int:
        """uint32 words of a row rounded up to whole groups."""
        return self.padded_dim // CODES_PER_WORD

    @property
    def row_bytes(self) -> int:
        """Bytes of one row: codes and scales."""
        return self.words * mx.uint32.size + self.groups * SCALE_DTYPE.size

    @property
    def bits_per_value(self) -> float:
        """Bits that one value costs, scales included: 4.5 at D = 128, G = 32."""
        return 8 * self.row_bytes / self.head_dim
