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

// What a lane needs for that stands in the table ready to be read, 16 bytes at a time (kernels/lanes.py):
//   TWIDDLES = 2 C + 4 cosines, as many sines with a minus sign: C of the small transform, one for each of the masks 16, 8, 4
//   and 2, and C that tell the halves apart; then, forward, the signs of the 2 R values it starts with;
//   of an inverse, whose PARTS are R, the R cosines and sines that tell the halves apart, and the 2 signs of its results.
#define TWIDDLES(R, PARTS) (2 * (R) / (PARTS) + 4)
#define FORWARD_FLOATS(R, PARTS) ((2 * TWIDDLES(R, PARTS) + 2 * (R) + 3) / 4 * 4)
#define INVERSE_FLOATS(R) ((2 * TWIDDLES(R, R) + 2 * (R) + 2 + 3) / 4 * 4)

// Where the table of D = 64 R has them: behind what else there is, the sizes of which kernels/codec.py tells.
template <int D, int HK, bool MU, bool LAMBDA, bool SMOOTH>
constexpr int forward_at() {
  return (3 * D + ((MU ? 2 : 0) + (LAMBDA ? 2 : 0) + (SMOOTH ? 1 : 0)) * HK * D + (LAMBDA ? HK : 0) + 1 + 3) / 4 * 4;
}
template <int D, int HK, bool MU, bool LAMBDA, bool SMOOTH>
constexpr int inverse_at() {
  constexpr int PARTS = D > 64 ? 2 : 1;
  return forward_at<D, HK, MU, LAMBDA, SMOOTH>() + PARTS * 32 * FORWARD_FLOATS(D / 64, PARTS);
}

// A lane's FLOATS of a table of `threads` lanes.
template <int FLOATS>
inline void load_lane(thread float* to, const device float* from, int at, int threads) {
  #pragma unroll
  for (int i = 0; i < FLOATS; i += 4) {
    const float4 four = *(const device float4*)(from + i * threads + 4 * at);
    to[i] = four.x;
    to[i + 1] = four.y;
    to[i + 2] = four.z;
    to[i + 3] = four.w;
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

// The 2 R values of a row that a lane starts with.
template <int R, typename T>
inline void load_row(thread T* to, const device T* from, int lane) {
  #pragma unroll
  for (int j = 0; j < R; j++) {
    to[2 * j] = from[64 * j + 2 * lane];
    to[2 * j + 1] = from[64 * j + 2 * lane + 1];
  }
}

// A row to its packed transform: in as x[2 n] and x[2 n + 1], out as `part`'s packed values (`packed_at`). `constants`: as
// `load_lane` gives them; the row has been multiplied by the signs.
template <int R, int PARTS>
inline void srft_lanes(const thread float* x_re, const thread float* x_im, thread float* packed,
                       const thread float* constants, int part, int lane) {
  static_assert(PARTS <= 2, "results 1 and 3 belong together");
  constexpr int C = R / PARTS;
  const thread float* cosines = constants;
  const thread float* sines = constants + TWIDDLES(R, PARTS);
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

// The inverse of a packed row, shared by R SIMD-groups: values 2 n and 2 n + 1 of n = packed_at<R, R>(0, part, lane), times
// their signs.
template <int R>
inline float2 inverse_srft_lanes(SHARED_POINTER(float) row, const thread float* constants, int part, int lane) {
  constexpr int D = 64 * R;
  const thread float* cosines = constants;
  const thread float* sines = constants + TWIDDLES(R, R);
  const thread float* half_cosines = constants + 2 * TWIDDLES(R, R);
  const thread float* half_sines = half_cosines + R;
  const thread float* signs = half_sines + R;
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
  float re;
  float im;
  small_dft<R, R>(x_re, x_im, part, &re, &im);
  fft_lanes<1>(&re, &im, cosines, sines, lane);
  float2 two;
  two.x = re * signs[0];
  two.y = -im * signs[1];
  return two;
}
