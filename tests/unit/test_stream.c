/* Which faults are taken to follow each other. */
#include <criterion/criterion.h>

#include "../../shim/pager/stream.h"

static struct streams streams;

/* A fault that brings in one page. */
static struct stream fault(size_t page)
{
    struct stream stream = stream_find(&streams, page);
    stream_note(&streams, page, page, page + 1);
    return stream;
}

static void no_stream(size_t page) { cr_assert_eq(fault(page).direction, 0, "page %zu", page); }

static void part_of(size_t page, int direction, size_t length)
{
    struct stream stream = fault(page);
    cr_assert_eq(stream.direction, direction, "page %zu", page);
    cr_assert_eq(stream.length, length, "page %zu comes after %zu", page, stream.length);
}

Test(stream, pages_in_order_are_one)
{
    no_stream(100);
    for (size_t i = 1; i < 50; i++)
        part_of(100 + i, 1, i);
}

Test(stream, downwards_as_well)
{
    no_stream(100);
    for (size_t i = 1; i <= 100; i++)
        part_of(100 - i, -1, i);
}

Test(stream, what_came_with_the_fault_counts)
{
    no_stream(10);
    part_of(11, 1, 1);
    stream_note(&streams, 12, 12, 28);
    part_of(28, 1, 18);
}

Test(stream, pages_that_are_there_are_passed)
{
    no_stream(10);
    part_of(11, 1, 1);
    part_of(12 + 16, 1, 2);
    no_stream(29 + 17);
}

Test(stream, the_first_pages_of_all_begin_none_from_above)
{
    no_stream(0);
    no_stream(SIZE_MAX / 2);
}

Test(stream, faults_here_and_there_are_none)
{
    for (size_t i = 0; i < 1000; i++)
        no_stream(i * 7919 % 1000 * 1000);
}

/* Otherwise a program that looks something up for each page that it goes through would never be seen to go through them. */
Test(stream, others_between_do_not_end_it)
{
    no_stream(100);
    part_of(101, 1, 1);
    part_of(102, 1, 2);
    for (size_t i = 3; i < 50; i++) {
        for (size_t k = 0; k < 3 * STREAMS_RECENT; k++)
            no_stream(100000 + 1000 * (i * 100 + k));
        part_of(100 + i, 1, i);
    }
}

Test(stream, pairs_of_pages_between_do_not_end_it_either)
{
    for (size_t i = 0; i < 3; i++)
        fault(100 + i);
    for (size_t k = 0; k < 100; k++) {
        no_stream(100000 + 1000 * k);
        part_of(100001 + 1000 * k, 1, 1);
    }
    part_of(103, 1, 3);
}

Test(stream, several_go_on_side_by_side)
{
    for (size_t i = 0; i < 20; i++)
        for (size_t k = 0; k < STREAMS_KNOWN; k++) {
            struct stream stream = fault(k * 1000 + i);
            cr_assert_eq(stream.length, i);
        }
}
