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
