// The packed unitary DFT of one real row of D = 64 R values (R = 1, 2 or 4), in the registers of one SIMD-group.
//
// The row is taken as R complex numbers a lane, x[2 n] + i x[2 n + 1], and transformed as D/2 of them: a small transform
// in each lane, twiddles, 32 points across the lanes by decimation in frequency, then the two halves are told apart.
// Lane l starts with n = 32 j + l at [j] and ends with k = R * mirrored(l) + j, whose packed values are k and D/2 + k.

inline int mirrored(int lane) {
  return (lane & 1) << 4 | (lane & 2) << 2 | (lane & 4) | (lane & 8) >> 2 | (lane & 16) >> 4;
}

// cos and -sin for: R - 1 twiddles of the small transform, one for each of the masks 16, 8, 4, 2, and R that tell the
// halves apart. `table`: cos [D], sin [D] of 2 pi n / D.
template <int R>
inline void load_twiddles(const device float* table, int lane, thread float* cosines, thread float* sines) {
  constexpr int D = 64 * R;
  #pragma unroll
  for (int j = 1; j < R; j++) {
    cosines[j - 1] = table[2 * lane * j];
    sines[j - 1] = -table[D + 2 * lane * j];
  }
  #pragma unroll
  for (int i = 0; i < 4; i++) {
    const int mask = 16 >> i;
    const int at = (lane & mask) != 0 ? (lane & (mask - 1)) * (2 << i) * R : 0;
    cosines[R - 1 + i] = table[at];
    sines[R - 1 + i] = -table[D + at];
  }
  #pragma unroll
  for (int j = 0; j < R; j++) {
    cosines[R + 3 + j] = table[R * mirrored(lane) + j];
    sines[R + 3 + j] = -table[D + R * mirrored(lane) + j];
  }
}

// The transform over [0], .., [R - 1], in natural order.
template <int R>
inline void small_dft(thread float* re, thread float* im) {
  if constexpr (R == 2) {
    const float a = re[0] - re[1];
    const float b = im[0] - im[1];
    re[0] += re[1];
    im[0] += im[1];
    re[1] = a;
    im[1] = b;
  } else if constexpr (R == 4) {
    const float even_re = re[0] + re[2];
    const float even_im = im[0] + im[2];
    const float odd_re = re[1] + re[3];
    const float odd_im = im[1] + im[3];
    const float a = re[0] - re[2];
    const float b = im[0] - im[2];
    // The odd difference turns by -i.
    const float c = im[1] - im[3];
    const float d = re[3] - re[1];
    re[0] = even_re + odd_re;
    im[0] = even_im + odd_im;
    re[1] = a + c;
    im[1] = b + d;
    re[2] = even_re - odd_re;
    im[2] = even_im - odd_im;
    re[3] = a - c;
    im[3] = b - d;
  }
}

template <int R>
inline void fft_lanes(thread float* re, thread float* im, const thread float* cosines, const thread float* sines, int lane) {
  small_dft<R>(re, im);
  #pragma unroll
  for (int j = 1; j < R; j++) {
    const float a = re[j];
    re[j] = a * cosines[j - 1] - im[j] * sines[j - 1];
    im[j] = a * sines[j - 1] + im[j] * cosines[j - 1];
  }
  #pragma unroll
  for (int i = 0; i < 5; i++) {
    const int mask = 16 >> i;
    const float sign = (lane & mask) != 0 ? -1.0f : 1.0f;
    #pragma unroll
    for (int j = 0; j < R; j++) {
      const float a = sign * re[j] + simd_shuffle_xor(re[j], mask);
      const float b = sign * im[j] + simd_shuffle_xor(im[j], mask);
      const float c = i < 4 ? cosines[R - 1 + i % 4] : 1.0f;
      const float s = i < 4 ? sines[R - 1 + i % 4] : 0.0f;
      re[j] = i < 4 ? a * c - b * s : a;
      im[j] = i < 4 ? a * s + b * c : b;
    }
  }
}

// A row to its packed transform: in as x[2 n] in re and x[2 n + 1] in im, out as packed k in re and D/2 + k in im.
template <int R>
inline void srft_lanes(thread float* re, thread float* im, const thread float* cosines, const thread float* sines, int lane) {
  fft_lanes<R>(re, im, cosines, sines, lane);
  const int opposite = mirrored((32 - mirrored(lane)) & 31);
  float other_re[R];
  float other_im[R];
  other_re[0] = simd_shuffle(re[0], opposite);
  other_im[0] = simd_shuffle(im[0], opposite);
  #pragma unroll
  for (int j = 1; j < R; j++) {
    other_re[j] = simd_shuffle_xor(re[R - j], 31);
    other_im[j] = simd_shuffle_xor(im[R - j], 31);
  }
  const float root = rsqrt(64.0f * (float)R);
  const float half_root2 = rsqrt(128.0f * (float)R);  // sqrt 2 / 2 / sqrt D
  #pragma unroll
  for (int j = 0; j < R; j++) {
    // Twice the transforms of the even and, up to -i, the odd elements.
    const float even_re = re[j] + other_re[j];
    const float even_im = im[j] - other_im[j];
    const float odd_re = im[j] + other_im[j];
    const float odd_im = other_re[j] - re[j];
    const float c = cosines[R + 3 + j];
    const float s = sines[R + 3 + j];
    const bool first = j == 0 && lane == 0;  // k = 0, and k = D/2 in place of its imaginary part
    const float a = re[j] + im[j];
    const float b = re[j] - im[j];
    re[j] = first ? a * root : (even_re + odd_re * c - odd_im * s) * half_root2;
    im[j] = first ? b * root : (even_im + odd_re * s + odd_im * c) * half_root2;
  }
}

// What an inverse needs besides twiddles, for all of it to be loaded ahead: cos and sin for the R that tell the halves
// apart, and for the elements that a lane ends up with the signs, and the means which are at `mean` of the table.
template <int R, bool CENTRED>
inline void load_inverse_constants(const device float* table, int mean, int lane, thread float* cosines,
                                   thread float* sines, thread float2* signs, thread float2* means) {
  constexpr int D = 64 * R;
  #pragma unroll
  for (int j = 0; j < R; j++) {
    const int d = 2 * (R * mirrored(lane) + j);
    cosines[j] = table[32 * j + lane];
    sines[j] = table[D + 32 * j + lane];
    signs[j] = *(const device float2*)(table + 2 * D + d);
    means[j].x = means[j].y = 0.0f;
    if (CENTRED) means[j] = *(const device float2*)(table + mean + d);
  }
}

// The inverse of a packed row: out as x[2 n] in re and x[2 n + 1] in im, n = R * mirrored(l) + j at [j].
template <int R>
inline void inverse_srft_lanes(SHARED_POINTER(float) row, thread float* re, thread float* im,
                               const thread float* turn_cosines, const thread float* turn_sines,
                               const thread float* cosines, const thread float* sines, int lane) {
  constexpr int D = 64 * R;
  const float root = rsqrt((float)D);
  const float root2 = rsqrt(0.5f * (float)D);
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
    const float c = turn_cosines[j];
    const float s = turn_sines[j];
    // E + i O, conjugated, so that the forward transform serves; O = (odd_re + i odd_im) (c + i s).
    const float o_re = odd_re * c - odd_im * s;
    const float o_im = odd_re * s + odd_im * c;
    const bool first = j == 0 && lane == 0;
    re[j] = first ? (a_re + a_im) * root : 0.5f * root2 * (a_re + b_re - o_im);
    im[j] = first ? (a_im - a_re) * root : -0.5f * root2 * (a_im - b_im + o_re);
  }
  fft_lanes<R>(re, im, cosines, sines, lane);
  #pragma unroll
  for (int j = 0; j < R; j++) im[j] = -im[j];
}
