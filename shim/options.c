#include "options.h"

#include "base/text.h"

#include <string.h>

#define X(field, kind, flag, variable, argument, value, minimum, maximum, default_text, help)                          \
    {flag,          variable, argument, default_text, help,                                                            \
     OPTION_##kind, value,    minimum,  maximum,      offsetof(struct options, field)},
const struct option option_table[] = {
#include "options.def"
};
#undef X

const size_t option_count = sizeof option_table / sizeof *option_table;

/* Where a text comes from and where complaints about it go. */
struct attempt {
    const struct option *option;
    const char *name; /* as the user wrote it: the flag or the variable */
    const char *value;
    struct text *why;
};

static void *field_of(struct options *options, const struct option *option)
{
    return (char *)options + option->offset;
}

static const char *spill_default(const char *(*getenv_fn)(const char *))
{
    const char *directory = getenv_fn("TMPDIR");
    return directory && *directory && strlen(directory) < OPTION_TEXT_MAX ? directory : "/var/tmp";
}

void options_defaults(struct options *out, const char *(*getenv_fn)(const char *))
{
    memset(out, 0, sizeof *out);
    for (const struct option *option = option_table; option < option_table + option_count; option++)
        if (option->kind == OPTION_SIZE)
            *(uint64_t *)field_of(out, option) = option->default_value;
        else if (option->kind == OPTION_SWITCH)
            *(bool *)field_of(out, option) = option->default_value;
    strcpy(out->spill, spill_default(getenv_fn));
    strcpy(out->trap, "auto");
}

/* The tail after the digits: nothing, %, or K M G T alone, with B or with iB. Returns the shift, -1 when it is none. */
static int suffix_shift(const char *tail)
{
    static const char units[] = "KMGT";
    if (*tail == '\0')
        return 0;
    const char *unit = strchr(units, *tail & ~0x20);
    if (!unit || !(*tail & ~0x20))
        return -1;
    tail++;
    if (*tail == 'i' && (tail[1] == 'B' || tail[1] == 'b'))
        tail++;
    if (*tail == 'B' || *tail == 'b')
        tail++;
    return *tail ? -1 : 10 * (int)(unit - units + 1);
}

static bool digits_parse(const char **text, uint64_t *out)
{
    const char *p = *text;
    uint64_t number = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (__builtin_mul_overflow(number, 10u, &number) || __builtin_add_overflow(number, digit, &number))
            return false;
    }
    bool any = p != *text;
    *text = p;
    *out = number;
    return any;
}

static bool percentage(uint64_t percent, uint64_t hundred_percent, uint64_t *out)
{
    uint64_t bytes;
    if (percent > 10000 || __builtin_mul_overflow(hundred_percent / 100, percent, &bytes))
        return false;
    return !__builtin_add_overflow(bytes, hundred_percent % 100 * percent / 100, out);
}

bool size_parse(const char *text, uint64_t hundred_percent, uint64_t *out)
{
    uint64_t number;
    if (!digits_parse(&text, &number))
        return false;
    if (strcmp(text, "%") == 0)
        return percentage(number, hundred_percent, out);
    int shift = suffix_shift(text);
    if (shift < 0 || number > UINT64_MAX >> shift)
        return false;
    *out = number << shift;
    return true;
}

bool size_is_percentage(const char *text)
{
    return strchr(text, '%') != NULL;
}

void size_format(uint64_t bytes, char *out, size_t size)
{
    struct text text = text_in(out, size);
    text_addf(&text, "%z", bytes);
}

/* "--ram: '12Q' " and the reason. Returns false, so that a failing parser can end with it. */
static bool refuse(const struct attempt *attempt, const char *reason)
{
    text_addf(attempt->why, "%s: '%s' %s", attempt->name, attempt->value, reason);
    return false;
}

static bool set_size(const struct attempt *attempt, uint64_t *field, uint64_t hundred_percent)
{
    const struct option *option = attempt->option;
    uint64_t bytes;
    if (!size_parse(attempt->value, hundred_percent, &bytes)) {
        refuse(attempt, "is not a size; allowed: a whole number with K, M, G or T, or a percentage, from ");
    } else if (bytes < option->minimum || bytes > option->maximum) {
        refuse(attempt, "is out of range; allowed: ");
    } else {
        *field = bytes;
        return true;
    }
    text_addf(attempt->why, "%z to %z", option->minimum, option->maximum);
    return false;
}

static bool set_text(const struct attempt *attempt, char *field, size_t size, const char *what)
{
    size_t length = strlen(attempt->value);
    if (length == 0) {
        refuse(attempt, "is empty; allowed: ");
    } else if (length >= size) {
        text_addf(attempt->why, "%s: %u bytes are too long; allowed, at most %u bytes: ", attempt->name,
                  (uint64_t)length, (uint64_t)size - 1);
    } else {
        memcpy(field, attempt->value, length + 1);
        return true;
    }
    text_add(attempt->why, what);
    return false;
}

static bool set_backend(const struct attempt *attempt, char *field, size_t size, bool (*exists)(const char *name))
{
    if (strcmp(attempt->value, "auto") != 0 && !exists(attempt->value))
        return refuse(attempt, "is no trap backend of this build; allowed: auto, or a name that vprun --doctor lists");
    return set_text(attempt, field, size, "a backend's name");
}

static bool set_switch(const struct attempt *attempt, bool *field)
{
    if (strcmp(attempt->value, "1") != 0 && strcmp(attempt->value, "0") != 0)
        return refuse(attempt, "is not a switch; allowed: 1 or 0");
    *field = *attempt->value == '1';
    return true;
}

static bool set_value(struct options *out, const struct attempt *attempt, const struct option_machine *machine)
{
    void *field = field_of(out, attempt->option);
    switch (attempt->option->kind) {
    case OPTION_SIZE:
        return set_size(attempt, field, machine->memory);
    case OPTION_BACKEND:
        return set_backend(attempt, field, sizeof out->trap, machine->backend_exists);
    case OPTION_DIR:
        return set_text(attempt, field, OPTION_TEXT_MAX, "a directory");
    case OPTION_SWITCH:
        return set_switch(attempt, field);
    case OPTION_STATS:
        return set_text(attempt, field, OPTION_TEXT_MAX, "a file, or - for stderr");
    }
    return false;
}

bool option_set(struct options *out, const struct option *option, const char *text,
                const struct option_machine *machine, char *why, size_t size)
{
    struct text sentence = text_in(why, size);
    return set_value(out, &(struct attempt){option, option->flag, text, &sentence}, machine);
}

/* The variable's value; an empty variable counts as none. */
static const char *variable_value(const struct option *option, const char *(*getenv_fn)(const char *))
{
    const char *value = getenv_fn(option->variable);
    return value && *value ? value : NULL;
}

bool options_use_percentage(const char *(*getenv_fn)(const char *))
{
    for (const struct option *option = option_table; option < option_table + option_count; option++) {
        const char *value = variable_value(option, getenv_fn);
        if (value && option->kind == OPTION_SIZE && size_is_percentage(value))
            return true;
    }
    return false;
}

void options_from_environment(struct options *out, const char *(*getenv_fn)(const char *),
                              const struct option_machine *machine, void (*complain)(const char *sentence))
{
    options_defaults(out, getenv_fn);
    for (const struct option *option = option_table; option < option_table + option_count; option++) {
        const char *value = variable_value(option, getenv_fn);
        char why[OPTION_TEXT_MAX + 256];
        struct text sentence = text_in(why, sizeof why);
        if (value && !set_value(out, &(struct attempt){option, option->variable, value, &sentence}, machine))
            complain(why);
    }
}
