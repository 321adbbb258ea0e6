// Nibbles to half2 without an integer-to-float conversion: a nibble put into the mantissa of 1024 is 1024 + nibble.
// codes_0_4 gives the codes of the word's values 0 and 4, codes_1_5 those of 1 and 5; of `word >> 8`: 2 and 6, 3 and 7.
inline half2 codes_0_4(uint word) {
  return as_type<half2>(and_or(word, 0x000F000Fu, 0x64006400u)) - as_type<half2>(0x64086408u);
}
inline half2 codes_1_5(uint word) {
  // 1024 + 16 nibble, times 1/16, less 64 + 8.
  return fma(as_type<half2>(and_or(word, 0x00F000F0u, 0x64006400u)), as_type<half2>(0x2C002C00u),
             as_type<half2>(0xD480D480u));
}

// A row's N scales, as pairs.
template <int N>
inline void load_steps(const device half* from, thread uint* pairs) {
  if constexpr (N == 8) {
    const uint4 all = *(const device uint4*)from;
    pairs[0] = all.x;
    pairs[1] = all.y;
    pairs[2] = all.z;
    pairs[3] = all.w;
  } else if constexpr (N == 4) {
    const uint2 all = *(const device uint2*)from;
    pairs[0] = all.x;
    pairs[1] = all.y;
  } else if constexpr (N == 2) {
    pairs[0] = *(const device uint*)from;
  } else {
    pairs[0] = as_type<uint>(half2(from[0], from[0]));
  }
}
