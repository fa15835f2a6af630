/* Calling a function on another stack: there it runs, and the way back is known. */
#include "contract.h"

#include "../../platform/stack.h"

#include <execinfo.h>
#include <unwind.h>

#define STACK KIB(64)

static _Alignas(16) unsigned char other[STACK];
static uintptr_t caller;

struct visit {
    int number;
    bool there, unwinds, aligned;
};

/* Whether unwinding from here comes by the function that has called. */
__attribute__((noinline)) static bool finds_caller(void)
{
    void *found[32];
    int count = backtrace(found, 32);
    for (int i = 0; i < count; i++)
        if ((uintptr_t) _Unwind_FindEnclosingFunction(found[i]) == caller)
            return true;
    return false;
}

__attribute__((noinline)) static void visit(void *given)
{
    struct visit *visit = given;
    _Alignas(16) unsigned char here[16];
    visit->number++;
    visit->there = (uintptr_t) here - (uintptr_t) other < STACK;
    __asm__ volatile("" : : "r"(here) : "memory");
    visit->aligned = (uintptr_t) __builtin_frame_address(0) % 16 == 0;
    visit->unwinds = finds_caller();
}

__attribute__((noinline)) static struct visit call(void)
{
    struct visit result = {.number = 41};
    stack_call(other + STACK, visit, &result);
    __asm__ volatile("" : : : "memory"); /* not a jump */
    return result;
}

static void runs_there_and_comes_back(void)
{
    struct visit result = call();
    CHECK_EQ(result.number, 42);
    CHECK(result.aligned);
    CHECK_EQ(result.there, STACK_IS_WRITTEN);
}

static void call_further_up(void *result) { *(struct visit *) result = call(); }

/* Up in memory as well as down. */
static void unwinds(void)
{
    struct visit result;
    caller = (uintptr_t) call;
    CHECK(call().unwinds);
    stack_call(other + STACK / 2, call_further_up, &result);
    CHECK(result.unwinds);
    caller = (uintptr_t) unwinds;
    stack_call(other + STACK / 2, call_further_up, &result);
    CHECK(result.unwinds);
}

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(runs_there_and_comes_back),
        CASE(unwinds),
        CASES_END,
    };
    return services_main(argc, argv, cases);
}
