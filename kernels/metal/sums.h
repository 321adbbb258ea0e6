// The end of a pass over the codes: every SIMD-group's sums come together in ROOMS rooms of threadgroup memory, HEADS rows
// of D values each, in order of the rows' values. Each room has a maximum of its own (in log2), and a weight.

// Puts a SIMD-group's sums, as `add_tile` leaves them, into a room; where it is `joined`, to those that are there already.
// Of those that share a tile, the one with its first unit puts maximum and weight there, which all of them have.
template <int D, int HEADS, int QUADS, int U>
inline void put_sums(SHARED_POINTER(float4) packs, SHARED_POINTER(float) tops, SHARED_POINTER(float) weights, int room,
                     bool joined, const thread float4* sum, const thread float (*most)[2], const thread float (*weight)[2],
                     int first_unit, int line, int pair) {
  constexpr int W = D / 8;
  float top[QUADS][2];
  float kept[QUADS][2];
  float taken[QUADS][2];
  float whole[QUADS][2];
  #pragma unroll
  for (int q = 0; q < QUADS; q++) {
    #pragma unroll
    for (int e = 0; e < 2; e++) {
      const int at = room * HEADS + min(4 * q + 2 * (pair & 1) + e, HEADS - 1);
      top[q][e] = joined ? max(most[q][e], tops[at]) : most[q][e];
      kept[q][e] = joined ? fast::exp2(most[q][e] - top[q][e]) : 1.0f;
      taken[q][e] = joined ? fast::exp2(tops[at] - top[q][e]) : 0.0f;
      whole[q][e] = joined ? weight[q][e] * kept[q][e] + weights[at] * taken[q][e] : weight[q][e];
    }
  }
  if (joined) simdgroup_barrier(mem_flags::mem_threadgroup);
  #pragma unroll
  for (int q = 0; q < QUADS; q++) {
    #pragma unroll
    for (int e = 0; e < 2; e++) {
      const int h = 4 * q + 2 * (pair & 1) + e;
      if (first_unit == 0 && line == 0 && pair / 2 == 0 && h < HEADS) {
        tops[room * HEADS + h] = top[q][e];
        weights[room * HEADS + h] = whole[q][e];
      }
      // A lane's sums count where its columns are of the side on which its word is.
      if (4 * q + e < HEADS && line / 4 == pair / 2 && h < HEADS) {
        SHARED_POINTER(float4) words = packs + ((room * HEADS + h) * W + 8 * first_unit + line) * 2;
        #pragma unroll
        for (int i = 0; i < 2 * U; i++) {
          const bool there = D % 64 == 0 || i / 2 * 8 + line < W;
          float x[4];
          #pragma unroll
          for (int n = 0; n < 4; n++) {
            const float4 four = sum[(i / 2 * 4 + n) * QUADS + q];
            x[n] = (i % 2 == 0 ? (e == 0 ? four.x : four.y) : (e == 0 ? four.z : four.w)) * kept[q][e];
          }
          float4 total = joined && there ? words[i / 2 * 16 + i % 2] : zeros4();
          total.x = total.x * taken[q][e] + x[0];
          total.y = total.y * taken[q][e] + x[1];
          total.z = total.z * taken[q][e] + x[2];
          total.w = total.w * taken[q][e] + x[3];
          if (there) words[i / 2 * 16 + i % 2] = total;
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
