// What the bodies need beyond Metal itself. cuda_prelude.h gives the same names a meaning for NVIDIA, the emulator of the
// tests brings SHARED of its own.
#ifndef SHARED
#define SHARED(T, name, n) threadgroup T name[n]
#endif
#define SHARED_POINTER(T) threadgroup T*
// An input that the kernel writes behind MLX's back: the emulator lets no other input be written.
#define IN_PLACE(T, name) ((device T*)name)
inline uint and_or(uint a, uint mask, uint b) { return (a & mask) | b; }
inline float reciprocal(float x) { return 1.0f / x; }
#define WORK_OUT(word)
#define ASK_FOR(address)
#define KNOWN_AFTER(index, word) (index)
template <typename T> inline T load_now(const device T* from) { return *from; }
