// N words that stand together (1, 2, 4 or 8), in as few loads as can be: their address is a multiple of their size, or of 16
// bytes.
template <int N>
inline void load_words(thread uint* to, const device uint* from) {
  if constexpr (N == 1) {
    to[0] = from[0];
  } else if constexpr (N == 2) {
    const uint2 two = *(const device uint2*)from;
    to[0] = two.x;
    to[1] = two.y;
  } else {
    #pragma unroll
    for (int i = 0; i < N; i += 4) {
      const uint4 four = *(const device uint4*)(from + i);
      to[i] = four.x;
      to[i + 1] = four.y;
      to[i + 2] = four.z;
      to[i + 3] = four.w;
    }
  }
}
