// LOAD = 2 or 4 neighbours at once, FOURS times, 32 lanes apart.
template <int LOAD, int FOURS>
inline void load_neighbours(thread float* x, const device float* from) {
  #pragma unroll
  for (int i = 0; i < FOURS; i++) {
    if constexpr (LOAD == 4) {
      const float4 four = *(const device float4*)(from + i * 128);
      x[4 * i] = four.x;
      x[4 * i + 1] = four.y;
      x[4 * i + 2] = four.z;
      x[4 * i + 3] = four.w;
    } else {
      const float2 two = *(const device float2*)(from + i * 64);
      x[2 * i] = two.x;
      x[2 * i + 1] = two.y;
    }
  }
}
