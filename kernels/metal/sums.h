// The end of a pass over the codes: every SIMD-group's sums come together in ROOMS rooms of threadgroup memory, HEADS rows
// of D values each, in order of the rows' values. Each room has a maximum of its own (in log2), and a weight.

// Of a lane's sums the one of a column, of the lower or the higher of two values.
inline float sum_of(float4 sum, int column, int high) {
  return high == 0 ? (column == 0 ? sum.x : sum.y) : (column == 0 ? sum.z : sum.w);
}

// Puts a SIMD-group's sums, as `add_tile` leaves them, into a room; where it is `joined`, to those that are there already.
// Of those that share a tile, the one with its first unit puts maximum and weight there, which all of them have.
template <int D, int HEADS, int U, bool WIDE>
inline void put_sums(SHARED_POINTER(float4) packs, SHARED_POINTER(float) tops, SHARED_POINTER(float) weights, int room,
                     bool joined, const thread float4* sum, const thread float* most, const thread float* weight,
                     int first_unit, int line, int pair) {
  constexpr int W = D / 8;
  const int first_vector = first_vector_of<WIDE>(pair);
  float top[2];
  float kept[2];
  float taken[2];
  float whole[2];
  #pragma unroll
  for (int e = 0; e < 2; e++) {
    const int at = room * HEADS + min(first_vector + e, HEADS - 1);
    top[e] = joined ? max(most[e], tops[at]) : most[e];
    kept[e] = joined ? fast::exp2(most[e] - top[e]) : 1.0f;
    taken[e] = joined ? fast::exp2(tops[at] - top[e]) : 0.0f;
    whole[e] = joined ? weight[e] * kept[e] + weights[at] * taken[e] : weight[e];
  }
  if (joined) simdgroup_barrier(mem_flags::mem_threadgroup);
  #pragma unroll
  for (int e = 0; e < 2; e++) {
    const int h = first_vector + e;
    if (first_unit == 0 && line == 0 && (WIDE || pair < 2) && h < HEADS) {
      tops[room * HEADS + h] = top[e];
      weights[room * HEADS + h] = whole[e];
    }
    // Unless WIDE, a lane's sums count where its columns are of the side on which its word is.
    if (e < HEADS && h < HEADS && (WIDE || line / 4 == pair / 2)) {
      const int first_word = (room * HEADS + h) * W + 8 * first_unit;
      if constexpr (WIDE) {
        SHARED_POINTER(float2) twos = (SHARED_POINTER(float2))packs;
        #pragma unroll
        for (int i = 0; i < 4 * U; i++) {
          const int word = i / 2 * 4 + line % 4;
          const int at = (first_word + word) * 4 + i % 2 * 2 + line / 4;
          const bool there = D % 64 == 0 || word < W;
          float2 total;
          total.x = total.y = 0.0f;
          if (joined && there) total = twos[at];
          total.x = total.x * taken[e] + sum_of(sum[i / 2 * 2], e, i % 2) * kept[e];
          total.y = total.y * taken[e] + sum_of(sum[i / 2 * 2 + 1], e, i % 2) * kept[e];
          if (there) twos[at] = total;
        }
      } else {
        #pragma unroll
        for (int i = 0; i < 2 * U; i++) {
          const int word = i / 2 * 8 + line;
          const int at = (first_word + word) * 2 + i % 2;
          const bool there = D % 64 == 0 || word < W;
          float4 total = joined && there ? packs[at] : zeros4();
          total.x = total.x * taken[e] + sum_of(sum[i / 2 * 4], e, i % 2) * kept[e];
          total.y = total.y * taken[e] + sum_of(sum[i / 2 * 4 + 1], e, i % 2) * kept[e];
          total.z = total.z * taken[e] + sum_of(sum[i / 2 * 4 + 2], e, i % 2) * kept[e];
          total.w = total.w * taken[e] + sum_of(sum[i / 2 * 4 + 3], e, i % 2) * kept[e];
          if (there) packs[at] = total;
        }
      }
    }
  }
}

// Four values, from 4 i on, of the rooms' rows put together, with the row's maximum and weight.
template <int D, int HEADS, int ROOMS>
inline float4 sum_rooms(SHARED_POINTER(float4) packs, SHARED_POINTER(float) tops, SHARED_POINTER(float) weights, int i,
                        thread float& top, thread float& whole) {
  const int h = 4 * i / D;
  top = tops[h];
  #pragma unroll
  for (int s = 1; s < ROOMS; s++) top = max(top, tops[s * HEADS + h]);
  float4 total = zeros4();
  whole = 0.0f;
  #pragma unroll
  for (int s = 0; s < ROOMS; s++) {
    const float share = fast::exp2(tops[s * HEADS + h] - top);
    const float4 four = packs[s * (HEADS * D / 4) + i];
    total.x += four.x * share;
    total.y += four.y * share;
    total.z += four.z * share;
    total.w += four.w * share;
    whole += weights[s * HEADS + h] * share;
  }
  return total;
}
