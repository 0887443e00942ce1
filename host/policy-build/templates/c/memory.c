// Memory without a C library: what one call needs is handed out in a row and
// taken back as a whole when the host has read the answer. What is to last longer
// belongs into static variables.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, PAGE = 65536 };

// Where the linker lets free memory begin.
extern uint8_t __heap_base;

static uintptr_t top = 0;

void *realloc(void *pointer, size_t size) {
  if (top == 0) top = ((uintptr_t)&__heap_base + ALIGN - 1) / ALIGN * ALIGN;
  uintptr_t start = top;
  uintptr_t end = (uintptr_t)__builtin_wasm_memory_size(0) * PAGE;
  if (size > SIZE_MAX - start - ALIGN) abort();
  top = (start + size + ALIGN - 1) / ALIGN * ALIGN;
  if (top > end && __builtin_wasm_memory_grow(0, (top - end + PAGE - 1) / PAGE) == SIZE_MAX) abort();
  // How long the old piece is nobody knows, but it ends before the new one.
  if (pointer != NULL) {
    size_t most = start - (uintptr_t)pointer;
    memcpy((void *)start, pointer, size < most ? size : most);
  }
  return (void *)start;
}

void free(void *pointer) { (void)pointer; }

void abort(void) { __builtin_trap(); }

void *memcpy(void *to, const void *from, size_t size) {
  for (size_t i = 0; i < size; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
  return to;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length] != '\0') length++;
  return length;
}

// The host calls this when it has read a plan. The bindings' own, which is weak,
// would free each part of it. If you export `rounds` too, add the same for it.
__attribute__((export_name("cabi_post_plan")))
void __wasm_export_exports_hooks_plan_post_return(uint8_t *answer) {
  (void)answer;
  top = 0;
}

// The bindings ask for an object file with the world's type to be linked in;
// `aio policy build` adds the type instead.
void __component_type_object_force_link_hooks(void) {}
