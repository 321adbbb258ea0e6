// The packed unitary DFT of one real row of D = 64 R values (R = 1, 2 or 4), in the registers of SIMD-groups.
//
// The row is taken as R complex numbers a lane, x[2 n] + i x[2 n + 1], and transformed as D/2 of them: a small transform
// in each lane, twiddles, 32 points across the lanes by decimation in frequency, then the two halves are told apart.
// Lane l starts with n = 32 j + l at [j]; what comes of the small transform's result j ends in k = R * mirrored(l) + j,
// whose packed values are k and D/2 + k.
//
// Behind the small transform its results have nothing to do with each other, but for j and R - j once the halves are
// told apart. So PARTS SIMD-groups may share a row: each has all of it, and goes on with C = R / PARTS results, of which
// c is j = part + PARTS c. A forward transform can be shared by two, an inverse by R.

inline int mirrored(int lane) {
  return (lane & 1) << 4 | (lane & 2) << 2 | (lane & 4) | (lane & 8) >> 2 | (lane & 16) >> 4;
}

// Where result c of a packed row lies: [c] is k, [C + c] is D/2 + k.
template <int R, int PARTS>
inline int packed_at(int c, int part, int lane) {
  constexpr int C = R / PARTS;
  return c / C * 32 * R + R * mirrored(lane) + part + PARTS * (c % C);
}

// cos and -sin for: C twiddles of the small transform, one for each of the masks 16, 8, 4, 2, and C that tell the halves
// apart. `table`: cos [D], sin [D] of 2 pi n / D.
template <int R, int PARTS>
inline void load_twiddles(const device float* table, int part, int lane, thread float* cosines, thread float* sines) {
  constexpr int C = R / PARTS;
  constexpr int D = 64 * R;
  #pragma unroll
  for (int c = 0; c < C; c++) {
    const int j = part + PARTS * c;
    cosines[c] = table[2 * lane * j];
    sines[c] = -table[D + 2 * lane * j];
    cosines[C + 4 + c] = table[R * mirrored(lane) + j];
    sines[C + 4 + c] = -table[D + R * mirrored(lane) + j];
  }
  #pragma unroll
  for (int i = 0; i < 4; i++) {
    const int mask = 16 >> i;
    const int at = (lane & mask) != 0 ? (lane & (mask - 1)) * (2 << i) * R : 0;
    cosines[C + i] = table[at];
    sines[C + i] = -table[D + at];
  }
}

// The results of the transform over [0], .., [R - 1] that are `part`'s.
template <int R, int PARTS>
inline void small_dft(const thread float* x_re, const thread float* x_im, int part, thread float* re, thread float* im) {
  constexpr int C = R / PARTS;
  if constexpr (R == 1) {
    re[0] = x_re[0];
    im[0] = x_im[0];
  } else if constexpr (R == 2) {
    #pragma unroll
    for (int c = 0; c < C; c++) {
      const float sign = part + c == 0 ? 1.0f : -1.0f;
      re[c] = x_re[0] + sign * x_re[1];
      im[c] = x_im[0] + sign * x_im[1];
    }
  } else {
    #pragma unroll
    for (int c = 0; c < C; c++) {
      const int j = part + PARTS * c;
      const float sign = (j & 1) == 0 ? 1.0f : -1.0f;
      const float even_re = x_re[0] + sign * x_re[2];
      const float even_im = x_im[0] + sign * x_im[2];
      const float odd_re = x_re[1] + sign * x_re[3];
      const float odd_im = x_im[1] + sign * x_im[3];
      // The odd ones turn by -i for each j.
      const float turn = j < 2 ? 1.0f : -1.0f;
      re[c] = even_re + turn * ((j & 1) == 0 ? odd_re : odd_im);
      im[c] = even_im + turn * ((j & 1) == 0 ? odd_im : -odd_re);
    }
  }
}

// C transforms of 32 points across the lanes, twiddles first.
template <int C>
inline void fft_lanes(thread float* re, thread float* im, const thread float* cosines, const thread float* sines, int lane) {
  #pragma unroll
  for (int c = 0; c < C; c++) {
    const float a = re[c];
    re[c] = a * cosines[c] - im[c] * sines[c];
    im[c] = a * sines[c] + im[c] * cosines[c];
  }
  #pragma unroll
  for (int i = 0; i < 5; i++) {
    const int mask = 16 >> i;
    const float sign = (lane & mask) != 0 ? -1.0f : 1.0f;
    #pragma unroll
    for (int c = 0; c < C; c++) {
      const float a = sign * re[c] + simd_shuffle_xor(re[c], mask);
      const float b = sign * im[c] + simd_shuffle_xor(im[c], mask);
      const float cosine = i < 4 ? cosines[C + i % 4] : 1.0f;
      const float sine = i < 4 ? sines[C + i % 4] : 0.0f;
      re[c] = i < 4 ? a * cosine - b * sine : a;
      im[c] = i < 4 ? a * sine + b * cosine : b;
    }
  }
}

// A row to its packed transform: in as x[2 n] and x[2 n + 1], out as `part`'s packed values (`packed_at`).
template <int R, int PARTS>
inline void srft_lanes(const thread float* x_re, const thread float* x_im, thread float* packed,
                       const thread float* cosines, const thread float* sines, int part, int lane) {
  static_assert(PARTS <= 2, "results 1 and 3 belong together");
  constexpr int C = R / PARTS;
  thread float* re = packed;
  thread float* im = packed + C;
  small_dft<R, PARTS>(x_re, x_im, part, re, im);
  fft_lanes<C>(re, im, cosines, sines, lane);
  const int opposite = mirrored((32 - mirrored(lane)) & 31);
  float other_re[C];
  float other_im[C];
  #pragma unroll
  for (int c = 0; c < C; c++) {
    const int j = part + PARTS * c;
    const int from = j == 0 ? opposite : lane ^ 31;
    // Result R - j, of which 1 and 3 are each other's.
    const bool crossed = R == 4 && (j & 1) != 0;
    const int other = PARTS == 1 ? (R - j) % R : c;
    other_re[c] = simd_shuffle(PARTS == 2 && crossed ? re[C - 1 - c] : re[other], from);
    other_im[c] = simd_shuffle(PARTS == 2 && crossed ? im[C - 1 - c] : im[other], from);
  }
  const float root = rsqrt(64.0f * (float)R);
  const float half_root2 = rsqrt(128.0f * (float)R);  // sqrt 2 / 2 / sqrt D
  #pragma unroll
  for (int c = 0; c < C; c++) {
    // Twice the transforms of the even and, up to -i, the odd elements.
    const float even_re = re[c] + other_re[c];
    const float even_im = im[c] - other_im[c];
    const float odd_re = im[c] + other_im[c];
    const float odd_im = other_re[c] - re[c];
    const float cosine = cosines[C + 4 + c];
    const float sine = sines[C + 4 + c];
    const bool first = part == 0 && c == 0 && lane == 0;  // k = 0, and k = D/2 in place of its imaginary part
    const float a = re[c] + im[c];
    const float b = re[c] - im[c];
    re[c] = first ? a * root : (even_re + odd_re * cosine - odd_im * sine) * half_root2;
    im[c] = first ? b * root : (even_im + odd_re * sine + odd_im * cosine) * half_root2;
  }
}

// What an inverse needs besides twiddles, for all of it to be loaded ahead: cos and sin for the R that tell the halves
// apart, and for the elements that a lane ends up with the signs, and the means which are at `mean` of the table.
template <int R, int PARTS, bool CENTRED>
inline void load_inverse_constants(const device float* table, int mean, int part, int lane, thread float* cosines,
                                   thread float* sines, thread float2* signs, thread float2* means) {
  constexpr int D = 64 * R;
  #pragma unroll
  for (int j = 0; j < R; j++) {
    cosines[j] = table[32 * j + lane];
    sines[j] = table[D + 32 * j + lane];
  }
  #pragma unroll
  for (int c = 0; c < R / PARTS; c++) {
    const int d = 2 * packed_at<R, PARTS>(c, part, lane);
    signs[c] = *(const device float2*)(table + 2 * D + d);
    means[c].x = means[c].y = 0.0f;
    if (CENTRED) means[c] = *(const device float2*)(table + mean + d);
  }
}

// The inverse of a packed row: out as x[2 n] in re and x[2 n + 1] in im, n = packed_at(c) at [c].
template <int R, int PARTS>
inline void inverse_srft_lanes(SHARED_POINTER(float) row, thread float* re, thread float* im,
                               const thread float* half_cosines, const thread float* half_sines,
                               const thread float* cosines, const thread float* sines, int part, int lane) {
  constexpr int D = 64 * R;
  const float root = rsqrt((float)D);
  const float root2 = rsqrt(0.5f * (float)D);
  float x_re[R];
  float x_im[R];
  #pragma unroll
  for (int j = 0; j < R; j++) {
    const int k = 32 * j + lane;
    const int opposite = k == 0 ? 0 : D / 2 - k;
    const float a_re = row[k];
    const float a_im = row[D / 2 + k];
    const float b_re = row[opposite];
    const float b_im = row[D / 2 + opposite];
    const float odd_re = a_re - b_re;
    const float odd_im = a_im + b_im;
    const float c = half_cosines[j];
    const float s = half_sines[j];
    // E + i O, conjugated, so that the forward transform serves; O = (odd_re + i odd_im) (c + i s).
    const float o_re = odd_re * c - odd_im * s;
    const float o_im = odd_re * s + odd_im * c;
    const bool first = j == 0 && lane == 0;
    x_re[j] = first ? (a_re + a_im) * root : 0.5f * root2 * (a_re + b_re - o_im);
    x_im[j] = first ? (a_im - a_re) * root : -0.5f * root2 * (a_im - b_im + o_re);
  }
  small_dft<R, PARTS>(x_re, x_im, part, re, im);
  fft_lanes<R / PARTS>(re, im, cosines, sines, lane);
  #pragma unroll
  for (int c = 0; c < R / PARTS; c++) im[c] = -im[c];
}
