// What the generated bindings want of a C library; `memory.c` has it.
#pragma once
#include <stddef.h>

void *memcpy(void *to, const void *from, size_t size);
size_t strlen(const char *text);
