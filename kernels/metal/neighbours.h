// A lane's share of a row of D floats: value j is d = share_value<D>(j, lane), two or four neighbours at once where rows
// are of 64, 128 or 256.
template <int D>
inline int share_value(int j, int lane) {
  constexpr int LOAD = D % 128 == 0 ? 4 : D == 64 ? 2 : 1;
  return j / LOAD * 32 * LOAD + LOAD * lane + j % LOAD;
}

template <int D>
inline void load_share(thread float* x, const device float* row, int lane) {
  if constexpr (D % 128 == 0) {
    #pragma unroll
    for (int j = 0; j < D / 32; j += 4) {
      const float4 four = *(const device float4*)(row + share_value<D>(j, lane));
      x[j] = four.x;
      x[j + 1] = four.y;
      x[j + 2] = four.z;
      x[j + 3] = four.w;
    }
  } else if constexpr (D == 64) {
    const float2 two = *(const device float2*)(row + share_value<D>(0, lane));
    x[0] = two.x;
    x[1] = two.y;
  } else {
    #pragma unroll
    for (int j = 0; j < (D + 31) / 32; j++) {
      const int d = share_value<D>(j, lane);
      x[j] = D % 32 == 0 || d < D ? row[d] : 0.0f;
    }
  }
}
