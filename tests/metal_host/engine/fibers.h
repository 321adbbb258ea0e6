// Each Metal thread is a fiber: a stack of its own and a switch written by hand (tens of nanoseconds; ucontext takes
// ten times that).
#pragma once
#include <sys/mman.h>

#include "abi.h"

#ifndef __x86_64__
#error "the fiber switch is written for x86-64"
#endif

const unsigned int MAX_THREADS = 1024;  // in a threadgroup, Metal's limit
const unsigned int LANES = 32;
const unsigned long STACK_BYTES = 64 << 10;

struct Fiber {
  void* stack_pointer = nullptr;
  HostThread place;
};

static Fiber fibers[MAX_THREADS];
static Fiber launcher;            // the caller's own stack
static Fiber* current = &launcher;
static char* stacks;              // of all fibers, end to end
static void** kernel_buffers;     // what host_entry gets
static unsigned long switches;

extern "C" void host_switch(void** save_here, void* continue_there);
asm(".text\n.hidden host_switch\n.globl host_switch\n.type host_switch,@function\nhost_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");

static void thread_returned();

static void run_thread() {
  host_entry(kernel_buffers, &current->place);
  thread_returned();
  __builtin_trap();
}

static inline void continue_with(Fiber* next) {
  if (next == current) return;
  Fiber* before = current;
  current = next;
  switches++;
  host_switch(&before->stack_pointer, next->stack_pointer);
}

static void allocate_stacks() {
  if (!stacks)
    stacks = (char*)mmap(nullptr, STACK_BYTES * MAX_THREADS, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

// The next switch to `fiber` enters run_thread, on a fresh stack.
static void prepare(Fiber& fiber) {
  void** top = (void**)(stacks + (&fiber - fibers + 1) * STACK_BYTES - 64);
  *--top = nullptr;  // run_thread's return address: never used, it keeps the alignment that the ABI asks for
  *--top = (void*)run_thread;
  for (int saved_registers = 0; saved_registers < 6; saved_registers++) *--top = nullptr;
  fiber.stack_pointer = top;
}
