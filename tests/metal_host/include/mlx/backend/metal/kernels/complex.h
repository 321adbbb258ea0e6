// In place of MLX's header: its constructors for each address space are Metal's alone, and no kernel here is complex.
#pragma once

template <typename T>
struct complex_t {
  T real, imag;
  constexpr complex_t(T real, T imag) : real(real), imag(imag) {}
};
typedef complex_t<float> complex64_t;
