/*
 * doctor.h: `vprun --doctor`, what Hyperion finds on this machine and what it would do there.
 */
#ifndef VP_VPRUN_DOCTOR_H
#define VP_VPRUN_DOCTOR_H

#include "../options.h"

/** Writes the report to stdout. Returns 0 when the trap backend asked for (any one for "auto") is usable, else 1. */
int doctor_report(const struct options *options);

#endif
