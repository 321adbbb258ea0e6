// N = 2, 4 or 8 neighbouring halves at once.
inline void unpack_halves(thread float* x, uint pair) {
  const half2 two = as_type<half2>(pair);
  x[0] = (float)two.x;
  x[1] = (float)two.y;
}

template <int N>
inline void load_neighbours(thread float* x, const device half* from) {
  if constexpr (N == 2) {
    unpack_halves(x, *(const device uint*)from);
  } else if constexpr (N == 4) {
    const uint2 all = *(const device uint2*)from;
    unpack_halves(x, all.x);
    unpack_halves(x + 2, all.y);
  } else {
    const uint4 all = *(const device uint4*)from;
    unpack_halves(x, all.x);
    unpack_halves(x + 2, all.y);
    unpack_halves(x + 4, all.z);
    unpack_halves(x + 6, all.w);
  }
}
