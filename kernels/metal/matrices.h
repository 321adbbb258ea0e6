// Products of matrices of 8 by 8 halves, spread over a SIMD-group: a lane has two neighbours of a row, columns 2 p and
// 2 p + 1 of row `matrix_row(lane)`, p = `matrix_pair(lane)`. A right-hand matrix may lie otherwise: `as_right` brings it
// there, and `right_lane` and `right_half` say which lane has element (row, column), and in which half of its word.
// `right_column` is the first of a lane's RIGHT_COLUMNS columns; `left_of` is the lane that has the same of columns 0 to 3.
// `same_bytes` has byte n of two words at the bottom of either half, and anything above.
#ifdef __METAL_VERSION__
// As Metal's simdgroup_matrix lies in a SIMD-group: MLX's own kernels rely on it (steel/gemm/mma.h, get_coord).
#define MATRIX_ROW_MASK(i) ((i) == 0 ? 2 : (i) == 1 ? 4 : 16)
inline int matrix_row(int lane) { return (lane & 16) >> 2 | (lane & 6) >> 1; }
inline int matrix_pair(int lane) { return (lane & 8) >> 2 | (lane & 1); }
inline uint right_lane(uint row, uint column) {
  return (row & 4) << 2 | (row & 3) << 1 | (column & 4) << 1 | (column & 2) >> 1;
}
inline uint right_half(uint row, uint column) { return column & 1; }
inline uint left_of(uint lane) { return lane & 23u; }
#define RIGHT_COLUMNS 2
inline int right_column(uint lane) { return (lane & 8) >> 1 | (lane & 1) << 1; }
inline uint as_right(uint pair) { return pair; }
inline uint low_halves(uint a, uint b) { return (a & 0xFFFFu) | b << 16; }
inline uint high_halves(uint a, uint b) { return a >> 16 | (b & 0xFFFF0000u); }
inline uint same_bytes(uint a, uint b, uint n) { return (a >> (8 * n) & 0xFFu) | (b >> (8 * n)) << 16; }

inline float2 multiplied(uint a, uint b, float2 sum) {
  simdgroup_half8x8 left;
  simdgroup_half8x8 right;
  simdgroup_float8x8 total;
  reinterpret_cast<thread half2&>(left.thread_elements()) = as_type<half2>(a);
  reinterpret_cast<thread half2&>(right.thread_elements()) = as_type<half2>(b);
  reinterpret_cast<thread float2&>(total.thread_elements()) = sum;
  simdgroup_multiply_accumulate(total, left, right, total);
  return reinterpret_cast<thread float2&>(total.thread_elements());
}

// sum += A B: of A, 16 by 16, a has rows 0 to 7 and b rows 8 to 15 of the first 8 columns, c and d those of the others;
// of B, 16 by 8, x has rows 0 to 7 and y the others; of the sum, .x and .y are rows 0 to 7.
inline void multiply_add(thread float4& sum, uint a, uint b, uint c, uint d, uint x, uint y) {
  float2 upper = float2(sum.x, sum.y);
  float2 lower = float2(sum.z, sum.w);
  upper = multiplied(c, y, multiplied(a, x, upper));
  lower = multiplied(d, y, multiplied(b, x, lower));
  sum.x = upper.x;
  sum.y = upper.y;
  sum.z = lower.x;
  sum.w = lower.y;
}
#else
#define MATRIX_ROW_MASK(i) (4 << (i))
inline int matrix_row(int lane) { return lane >> 2; }
inline int matrix_pair(int lane) { return lane & 3; }
inline uint right_lane(uint row, uint column) { return column << 2 | row >> 1; }
inline uint right_half(uint row, uint column) { return row & 1; }
inline uint left_of(uint lane) { return lane & 15u; }
#define RIGHT_COLUMNS 1
inline int right_column(uint lane) { return lane >> 2; }
inline uint as_right(uint pair) {
  uint turned;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(pair));
  return turned;
}
inline uint low_halves(uint a, uint b) { return __byte_perm(a, b, 0x5410); }
inline uint high_halves(uint a, uint b) { return __byte_perm(a, b, 0x7632); }
inline uint same_bytes(uint a, uint b, uint n) { return __byte_perm(a, b, 0x0400 + 0x1111 * n); }
inline void multiply_add(float4& sum, uint a, uint b, uint c, uint d, uint x, uint y) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(sum.x), "+f"(sum.y), "+f"(sum.z), "+f"(sum.w)
               : "r"(a), "r"(b), "r"(c), "r"(d), "r"(x), "r"(y));
}
#endif
inline float4 zeros4() {
  float4 four;
  four.x = four.y = four.z = four.w = 0.0f;
  return four;
}
inline uint4 zero_pack() {
  uint4 four;
  four.x = four.y = four.z = four.w = 0u;
  return four;
}
// Where value d of query vector h goes, in halves: right-hand matrices of a column a vector, a pack of 8 halves a lane for
// each 32 values, which are 4 rows of words for two products.
inline uint query_at(uint d, uint h) {
  const uint row = d / 8 % 4 * 2 + d / 4 % 2;
  return 8 * (d / 32 * 32 + right_lane(row, h)) + 2 * (d % 4) + right_half(row, h);
}
