// Buffers and threadgroup memory. A buffer ends at a guard page; what no one has written holds 0xFF, a NaN in every
// float type; inputs cannot be written, but for those that the body names in IN_PLACE.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "report.h"

enum BufferKind : unsigned int { INPUT = 0, FRESH_OUTPUT = 1, FILLED_OUTPUT = 2, IN_PLACE = 3 };

struct HostBuffer {  // as launch.py lays it out
  char* data;
  unsigned long bytes;
  unsigned int kind;
  unsigned int unused;
  unsigned long read, written, touched;  // results: bytes all threads loaded, stored; distinct bytes loaded
};

const unsigned long PAGE = 4096, GUARD = 16 * PAGE;
const unsigned char POISON = 0xFF;

struct Mapping {  // where a buffer's copy lies: guard, slack, data, slack of under 16 bytes, guard
  char *whole, *first, *begin, *end, *last;
};

static std::vector<Mapping> mappings;

static void map_buffer(const HostBuffer& buffer) {
  const unsigned long data = (std::max(buffer.bytes, 1ul) + 15) / 16 * 16;
  const unsigned long body = (data + PAGE - 1) / PAGE * PAGE;
  char* whole = (char*)mmap(nullptr, body + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  Mapping m{whole, whole + GUARD, whole + GUARD + body - data, nullptr, whole + GUARD + body};
  m.end = m.begin + buffer.bytes;
  mprotect(m.first, body, PROT_READ | PROT_WRITE);
  memset(m.first, POISON, body);
  if (buffer.kind != FRESH_OUTPUT) memcpy(m.begin, buffer.data, buffer.bytes);
  if (buffer.kind == INPUT) mprotect(m.first, body, PROT_READ);
  mappings.push_back(m);
}

static void unmap_buffer(const Mapping& m, const HostBuffer& buffer, unsigned int number) {
  const auto poisoned = [](char c) { return (unsigned char)c == POISON; };
  if (!std::all_of(m.first, m.begin, poisoned)) report("out of bounds: write before the start of buffer %u", number);
  if (!std::all_of(m.end, m.last, poisoned)) report("out of bounds: write past the end of buffer %u", number);
  if (buffer.kind != INPUT) memcpy(buffer.data, m.begin, buffer.bytes);
  munmap(m.whole, m.last + GUARD - m.whole);
}

static void describe_fault(const char* address, char* text, unsigned long size) {
  for (unsigned int i = 0; i < mappings.size(); i++) {
    const Mapping& m = mappings[i];
    if (address < m.whole || address >= m.last + GUARD) continue;
    const bool inside = address >= m.begin && address < m.end;
    snprintf(text, size, inside ? "write to an input: offset %ld of buffer %u, which has %ld bytes"
                                : "out of bounds: offset %ld of buffer %u, which has %ld bytes",
             (long)(address - m.begin), i, (long)(m.end - m.begin));
    return;
  }
  snprintf(text, size, "memory fault at an address of no buffer");
}

// ------------------------------------------------------------------ threadgroup memory
struct Variable {
  unsigned int id, offset, bytes, line;
};

const unsigned int ARENA = 1 << 18, THREADGROUP_LIMIT = 32768;  // the limit is Apple's, on every family since Apple4

alignas(16) static char arena[ARENA];
static std::vector<Variable> variables;
static unsigned int arena_top, variable_bytes, variable_bytes_max;

extern "C" void* host_threadgroup_variable(unsigned int id, unsigned int bytes, unsigned int alignment,
                                           unsigned int line) {
  for (const Variable& v : variables)
    if (v.id == id && v.bytes == bytes) return arena + v.offset;
  variable_bytes += (bytes + 15) / 16 * 16;
  variable_bytes_max = std::max(variable_bytes_max, variable_bytes);
  if (variable_bytes > THREADGROUP_LIMIT) {
    report("line %u: %u bytes of threadgroup memory; the limit is %u", line, variable_bytes, THREADGROUP_LIMIT);
    give_up();
  }
  // A gap that belongs to no variable; and no better aligned than the type asks for, as a compiler may lay it too.
  const unsigned int offset = arena_top + 64 + (alignment < 16 ? alignment : 0);
  variables.push_back({id, offset, bytes, line});
  arena_top = (offset + bytes + 15) / 16 * 16;
  memset(arena + offset, POISON, bytes);
  return arena + offset;
}

static void forget_variables() {
  variables.clear();
  arena_top = variable_bytes = 0;
}
