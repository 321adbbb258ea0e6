// The `checked` build: clang's instrumentation calls these handlers at every load, store and doubtful operation, so no
// sanitizer runtime is needed. __tsan_*: memory; __ubsan_*: the language.
#pragma once
#include <cstddef>

#include "memory.h"
#include "races.h"

static std::vector<std::vector<Touch>> buffer_touches;  // one a byte of what may be written
static std::vector<std::vector<bool>> loaded;           // one a byte of any buffer
static std::vector<Touch> arena_touches;
static std::vector<void*> reported_at;                  // an instruction is reported once
static HostBuffer* counted;                             // whose figures grow

extern "C" {
extern char __ehdr_start __attribute__((visibility("hidden")));
extern char _end __attribute__((visibility("hidden")));
}

static bool on_a_stack(const char* address) {
  return address >= stacks && address < stacks + STACK_BYTES * MAX_THREADS;
}

static void report_at(void* instruction, const char* text) {
  if (std::find(reported_at.begin(), reported_at.end(), instruction) != reported_at.end()) return;
  reported_at.push_back(instruction);
  report("pc+0x%lx %s", (long)((char*)instruction - &__ehdr_start), text);
}

static void touch_arena(char* p, unsigned int n, bool write, void* pc) {
  const unsigned int offset = (unsigned int)(p - arena);
  char text[200];
  for (const Variable& v : variables) {
    if (offset < v.offset || offset + n > v.offset + v.bytes) continue;
    const unsigned int epoch = waiting[current->place.simdgroup].threadgroup_epoch;
    if (const char* wrong = touch(&arena_touches[offset], n, write, MUST_BE_WRITTEN, epoch)) {
      snprintf(text, sizeof text, "byte %u of the threadgroup array of line %u: %s", offset - v.offset, v.line, wrong);
      report_at(pc, text);
    }
    return;
  }
  snprintf(text, sizeof text, "out of bounds: %s of %u bytes outside every threadgroup array",
           write ? "write" : "read", n);
  report_at(pc, text);
}

static Rule rule_of(unsigned int kind) {
  return kind == FRESH_OUTPUT ? MUST_BE_WRITTEN : kind == IN_PLACE ? MAY_BE_STALE : MAY_BE_READ;
}

static void touch_buffer(unsigned int i, char* p, unsigned int n, bool write, void* pc) {
  const Mapping& m = mappings[i];
  const long offset = p - m.begin;
  char text[200];
  if (p < m.begin || p + n > m.end) {
    snprintf(text, sizeof text, "out of bounds: %s of %u bytes at offset %ld of buffer %u, which has %ld bytes",
             write ? "write" : "read", n, offset, i, (long)(m.end - m.begin));
    return report_at(pc, text);
  }
  (write ? counted[i].written : counted[i].read) += n;
  if (!write)
    for (unsigned int k = 0; k < n; k++)
      if (!loaded[i][offset + k]) loaded[i][offset + k] = true, counted[i].touched++;
  if (counted[i].kind == INPUT) return;
  const unsigned int epoch = waiting[current->place.simdgroup].device_epoch;
  if (const char* wrong = touch(&buffer_touches[i][offset], n, write, rule_of(counted[i].kind), epoch)) {
    snprintf(text, sizeof text, "byte %ld of buffer %u: %s", offset, i, wrong);
    report_at(pc, text);
  }
}

static void touch_memory(void* address, unsigned int n, bool write, void* pc) {
  char* p = (char*)address;
  if (on_a_stack(p)) return;
  if (p >= arena && p < arena + ARENA) return touch_arena(p, n, write, pc);
  for (unsigned int i = 0; i < mappings.size(); i++)
    if (p >= mappings[i].whole && p < mappings[i].last + GUARD) return touch_buffer(i, p, n, write, pc);
  if (p >= &__ehdr_start && p < &_end) return;  // constants, and the engine's own mailboxes
  if (p >= (char*)kernel_buffers && p < (char*)(kernel_buffers + mappings.size())) return;
  report_at(pc, write ? "out of bounds: write to no buffer's memory" : "out of bounds: read of no buffer's memory");
}

static void touch_aligned(void* address, unsigned int n, bool write, void* pc) {
  if ((unsigned long)address % n) report_at(pc, write ? "misaligned write" : "misaligned read");
  touch_memory(address, n, write, pc);
}

static void start_checks(HostBuffer* buffers, unsigned int count) {
  counted = buffers;
  reported_at.clear();
  buffer_touches.assign(count, {});
  loaded.assign(count, {});
  arena_touches.assign(ARENA, Touch{});
  for (unsigned int i = 0; i < count; i++) {
    loaded[i].resize(buffers[i].bytes);
    if (buffers[i].kind != INPUT) buffer_touches[i].assign(buffers[i].bytes, Touch{});
  }
}

static void start_threadgroup_checks() {
  std::fill(arena_touches.begin(), arena_touches.begin() + arena_top, Touch{});
}

#define CALLER __builtin_return_address(0)
#define HANDLE(n)                                                                    \
  void __tsan_read##n(void* p) { touch_aligned(p, n, false, CALLER); }               \
  void __tsan_write##n(void* p) { touch_aligned(p, n, true, CALLER); }               \
  void __tsan_unaligned_read##n(void* p) { touch_memory(p, n, false, CALLER); }      \
  void __tsan_unaligned_write##n(void* p) { touch_memory(p, n, true, CALLER); }
extern "C" {
HANDLE(1) HANDLE(2) HANDLE(4) HANDLE(8) HANDLE(16)
void __tsan_read_range(void* p, size_t n) { touch_memory(p, (unsigned int)n, false, CALLER); }
void __tsan_write_range(void* p, size_t n) { touch_memory(p, (unsigned int)n, true, CALLER); }
void __tsan_init() {}
void* __tsan_memset(void* to, int value, size_t n) {
  touch_memory(to, (unsigned int)n, true, CALLER);
  return memset(to, value, n);
}
void* __tsan_memcpy(void* to, const void* from, size_t n) {
  touch_memory((void*)from, (unsigned int)n, false, CALLER);
  touch_memory(to, (unsigned int)n, true, CALLER);
  return memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, size_t n) {
  touch_memory((void*)from, (unsigned int)n, false, CALLER);
  touch_memory(to, (unsigned int)n, true, CALLER);
  return memmove(to, from, n);
}
}

struct SourceLocation {
  const char* file;
  unsigned int line, column;
};
const unsigned int REPORTED = ~0u;

static void report_language(const char* text, SourceLocation* at) {
  if (at->line == REPORTED) return;
  const char* slash = at->file ? strrchr(at->file, '/') : nullptr;
  report("%s line %u:%u: %s", slash ? slash + 1 : at->file ? at->file : "?", at->line, at->column, text);
  at->line = REPORTED;
}

#define DOUBTFUL(name, text) \
  void __ubsan_handle_##name(SourceLocation* at, unsigned long, unsigned long) { report_language(text, at); }
extern "C" {
DOUBTFUL(type_mismatch_v1, "misaligned or null access")
DOUBTFUL(out_of_bounds, "out of bounds of the array")
DOUBTFUL(divrem_overflow, "division by zero, or its overflow")
DOUBTFUL(add_overflow, "signed overflow in +")
DOUBTFUL(sub_overflow, "signed overflow in -")
DOUBTFUL(mul_overflow, "signed overflow in *")
DOUBTFUL(negate_overflow, "signed overflow in negation")
DOUBTFUL(float_cast_overflow, "conversion of a float that no integer of the type holds")
DOUBTFUL(load_invalid_value, "a bool that is neither true nor false")
DOUBTFUL(builtin_unreachable, "unreachable code was reached")
DOUBTFUL(missing_return, "a function ends without its value")
}
