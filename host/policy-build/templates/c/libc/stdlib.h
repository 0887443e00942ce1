// What the generated bindings want of a C library; `memory.c` has it.
#pragma once
#include <stddef.h>

void *realloc(void *pointer, size_t size);
void free(void *pointer);
_Noreturn void abort(void);
