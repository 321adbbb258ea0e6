// What is wrong with a kernel, gathered as text, one line a finding.
#pragma once
#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <string>

const unsigned int MAX_FINDINGS = 20;

static std::string findings;
static unsigned int finding_count;
static sigjmp_buf abandon_launch;

// Where a finding was made; the scheduler knows, and there may be no thread at all.
static std::string current_thread_text();

__attribute__((format(printf, 1, 2))) static void report(const char* format, ...) {
  if (++finding_count > MAX_FINDINGS) return;
  char text[2000];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  findings += text + current_thread_text() + "\n";
}

[[noreturn]] static void give_up() { siglongjmp(abandon_launch, 1); }
