// Nibbles to halves without an integer-to-float conversion, two at a time: `codes_0_4` gives those of the word's values 0
// and 4, `codes_1_5` of 1 and 5; of `word >> 8`: of 2 and 6, 3 and 7.
//
// Exact, a nibble put into the mantissa of 1024 is 1024 + nibble, and what is too much is taken off. BIASED, the nibble
// itself is a subnormal half: code + 8 in units of EVEN_UNIT or ODD_UNIT, one operation in place of two. What reads them
// takes the 8 off its sums. NVIDIA's matrix products know subnormals; whether Apple's do is not said.
#if BIASED
#define EVEN_UNIT 5.9604644775390625e-8f  // 2^-24
#define ODD_UNIT 9.5367431640625e-7f      // 2^-20
inline uint codes_0_4(uint word) { return word & 0x000F000Fu; }
inline uint codes_1_5(uint word) { return word & 0x00F000F0u; }
#else
#define EVEN_UNIT 1.0f
#define ODD_UNIT 1.0f
inline uint codes_0_4(uint word) {
  return as_type<uint>(as_type<half2>(and_or(word, 0x000F000Fu, 0x64006400u)) - as_type<half2>(0x64086408u));
}
inline uint codes_1_5(uint word) {
  // 1024 + 16 nibble, times 1/16, less 64 + 8.
  return as_type<uint>(fma(as_type<half2>(and_or(word, 0x00F000F0u, 0x64006400u)), as_type<half2>(0x2C002C00u),
                           as_type<half2>(0xD480D480u)));
}
#endif
// Pairs of halves: the codes 0 as they come out of a word, and -8.
#define EVEN_ZEROS 0x00080008u
#define ODD_ZEROS 0x00800080u
#define MINUS_EIGHTS 0xC800C800u
