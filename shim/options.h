/*
 * options.h: what the user asked for, from VP_* variables or from the launcher's command line (options.def has the table).
 */
#ifndef VP_OPTIONS_H
#define VP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTION_TEXT_MAX 1024

struct options {
    uint64_t ram; /* bytes; 0: not given, memory_default_budget() decides */
    char spill[OPTION_TEXT_MAX]; /* never empty after options_defaults() */
    uint64_t spill_max;
    uint64_t threshold;
    uint64_t arena;
    char trap[32]; /* "auto" or a backend's name */
    bool lazy;
    bool no_filter;
    bool small; /* the launcher's business */
    char stats[OPTION_TEXT_MAX]; /* "" off, "-" stderr, else a path */
    bool summary;
    bool verbose;
};

/* Machine-dependent inputs of the parser, so that it is pure. */
struct option_machine {
    uint64_t memory; /* bytes that "100%" stands for: min(RAM, cgroup limit) */
    bool (*backend_exists)(const char *name);
};

enum option_kind { OPTION_SIZE, OPTION_BACKEND, OPTION_DIR, OPTION_SWITCH, OPTION_STATS };

/* A row of options.def. */
struct option {
    const char *flag, *variable, *argument, *default_text, *help;
    enum option_kind kind;
    uint64_t default_value, minimum, maximum;
    size_t offset; /* of the field in struct options */
};

extern const struct option option_table[];
extern const size_t option_count;

/** Fills in every default (spill from `getenv_fn("TMPDIR")` when it is set and not empty, else /var/tmp). */
void options_defaults(struct options *out, const char *(*getenv_fn)(const char *));

/**
 * Parses `text` for `option` into *out. Returns true; or false with a sentence in why[0..size) that names the option,
 * the value and what is allowed, *out unchanged. No allocation, no stdio, errno untouched.
 */
bool option_set(struct options *out, const struct option *option, const char *text, const struct option_machine *machine,
                char *why, size_t size);

/** Parses a size: digits with an optional K, M, G, T (either case, "KiB" and "KB" style tails accepted) or N%.
 *  Returns false when it is none, or does not fit 64 bits. */
bool size_parse(const char *text, uint64_t hundred_percent, uint64_t *out);

/** Whether a size is given in percent: only then is option_machine's `memory`, which is dear to find out, needed. */
bool size_is_percentage(const char *text);

/** Whether any VP_* variable gives a size in percent. */
bool options_use_percentage(const char *(*getenv_fn)(const char *));

/** Writes a size as people write it ("512M", "1.5G") into out[0..size). */
void size_format(uint64_t bytes, char *out, size_t size);

/**
 * Fills in the defaults, then reads every VP_* variable (an empty one counts as none). A bad one is reported to `complain` (one sentence) and keeps its default: the bare shim
 * never refuses to run.
 */
void options_from_environment(struct options *out, const char *(*getenv_fn)(const char *),
                              const struct option_machine *machine, void (*complain)(const char *sentence));

#endif
