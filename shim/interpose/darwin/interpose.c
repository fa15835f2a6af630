/*
 * interpose.c: the section in which dyld looks for replacements. A linker that strips what nobody refers to would drop
 * it unseen: a test looks for it in what was built.
 */
#include "hooks.h"

typedef void (*any_function)(void);

__attribute__((used, section("__DATA,__interpose"))) static const struct {
    any_function replacement, replaced;
} interposed[] = {
#define HOOK(result, name, parameters)            {(any_function) hooked_##name, (any_function) name},
#define HOOK_AS(result, name, symbol, parameters) HOOK(result, name, parameters)
#include "hooks.def"
#undef HOOK
#undef HOOK_AS
};
