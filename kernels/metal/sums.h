// The end of a pass over the codes: every SIMD-group's sums come together in ROOMS rooms of threadgroup memory, HEADS rows
// of D values each, in order of the rows' values. Each room has a maximum of its own (in log2), and a weight.

// Where the row of query vector h begins in a room, in packs of four values. Rows are moved apart so that no two lanes of a
// quarter SIMD-group, which have two words of each of four vectors or four words of two, meet in a bank.
template <int D> constexpr int room_row(int h) { return h * (D / 4) + h / 2 % 2 + h / 4 * 4; }
template <int D, int HEADS> constexpr int room_packs() { return room_row<D>(HEADS - 1) + D / 4; }

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
      const int row = room * room_packs<D, HEADS>() + room_row<D>(h) + 16 * first_unit;
      #pragma unroll
      for (int i = 0; i < 2 * U; i++) {
        // Of word i / 2 * 8 + line a lane has both halves, or where WIDE the half line / 4 of two words.
        const int word = WIDE ? i * 4 + line % 4 : i / 2 * 8 + line;
        const int at = row + word * 2 + (WIDE ? line / 4 : i % 2);
        const bool there = D % 64 == 0 || word < W;
        float4 total = joined && there ? packs[at] : zeros4();
        total.x = total.x * taken[e] + (WIDE ? sum_of(sum[2 * i], e, 0) : sum_of(sum[i / 2 * 4], e, i % 2)) * kept[e];
        total.y = total.y * taken[e] + (WIDE ? sum_of(sum[2 * i + 1], e, 0) : sum_of(sum[i / 2 * 4 + 1], e, i % 2)) * kept[e];
        total.z = total.z * taken[e] + (WIDE ? sum_of(sum[2 * i], e, 1) : sum_of(sum[i / 2 * 4 + 2], e, i % 2)) * kept[e];
        total.w = total.w * taken[e] + (WIDE ? sum_of(sum[2 * i + 1], e, 1) : sum_of(sum[i / 2 * 4 + 3], e, i % 2)) * kept[e];
        if (there) packs[at] = total;
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
    const float4 four = packs[s * room_packs<D, HEADS>() + room_row<D>(h) + i - h * (D / 4)];
    total.x += four.x * share;
    total.y += four.y * share;
    total.z += four.z * share;
    total.w += four.w * share;
    whole += weights[s * HEADS + h] * share;
  }
  return total;
}
