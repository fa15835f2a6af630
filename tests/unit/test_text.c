/* The builder of short texts (shim/base/text.h). */
#include "../../shim/base/text.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static char buffer[128];

static const char *json(const char *string)
{
    struct text text = text_in(buffer, sizeof buffer);
    text_add_json(&text, string);
    return buffer;
}

static const char *size(uint64_t bytes)
{
    struct text text = text_in(buffer, sizeof buffer);
    text_addf(&text, "%z", bytes);
    return buffer;
}

Test(text, starts_empty)
{
    struct text text = text_in(buffer, sizeof buffer);
    cr_assert_str_empty(buffer);
    cr_assert_eq(text.length, 0);
}

Test(text, adds_strings_and_numbers)
{
    struct text text = text_in(buffer, sizeof buffer);
    text_add(&text, "a ");
    text_add_u64(&text, 0);
    text_add(&text, " ");
    text_add_u64(&text, UINT64_MAX);
    text_add(&text, " 0x");
    text_add_hex(&text, 0xdeadbeefull);
    cr_assert_str_eq(buffer, "a 0 18446744073709551615 0xdeadbeef");
    cr_assert_eq(text.length, strlen(buffer));
}

Test(text, cuts_what_does_not_fit)
{
    char small[6] = "xxxxx";
    struct text text = text_in(small, 5);
    text_addf(&text, "%u%s", (uint64_t)123, "456");
    text_add(&text, "7");
    cr_assert_str_eq(small, "1234");
    cr_assert_eq(text.length, 4);
}

Test(text, fits_in_one_byte)
{
    char one[1];
    struct text text = text_in(one, 1);
    text_add(&text, "abc");
    cr_assert_str_empty(one);
}

Test(text, formats)
{
    struct text text = text_in(buffer, sizeof buffer);
    text_addf(&text, "%s|%u|%x|%z|%%|%q|%", "s", (uint64_t)7, (uint64_t)255, (uint64_t)1 << 31);
    cr_assert_str_eq(buffer, "s|7|ff|2G|%|%q|%");
}

Test(text, sizes_as_people_write_them)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {
        {0, "0"},
        {1023, "1023"},
        {1024, "1K"},
        {1536, "1.5K"},
        {512ull << 20, "512M"},
        {3ull << 29, "1.5G"},
        {(1ull << 30) - 1, "1G"},
        {(1ull << 40) - 1, "1T"},
        {1ull << 50, "1024T"},
        {UINT64_MAX, "16777216T"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_str_eq(size(rows[i].bytes), rows[i].text, "%s, not %s", buffer, rows[i].text);
}

Test(text, escapes_json)
{
    cr_expect_str_eq(json("plain"), "plain");
    cr_expect_str_eq(json("a\"b\\c"), "a\\\"b\\\\c");
    cr_expect_str_eq(json("\n\x1f\x7f"), "\\u000a\\u001f\\u007f");
}

Test(text, json_keeps_utf8_and_replaces_the_rest)
{
    cr_expect_str_eq(json("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    cr_expect_str_eq(json("\xff"), "\\ufffd");
    cr_expect_str_eq(json("\xc3"), "\\ufffd", "cut short");
    cr_expect_str_eq(json("\xc0\x80"), "\\ufffd\\ufffd", "overlong");
    cr_expect_str_eq(json("\xed\xa0\x80"), "\\ufffd\\ufffd\\ufffd", "surrogate");
    cr_expect_str_eq(json("\xf4\x90\x80\x80"), "\\ufffd\\ufffd\\ufffd\\ufffd", "beyond Unicode");
}
