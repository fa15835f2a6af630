/*
 * report.h: what the shim tells about itself: vp_stats(), and --stats and --summary at exit.
 */
#ifndef VP_PROCESS_REPORT_H
#define VP_PROCESS_REPORT_H

#include "../vp.h"

/** Reads every figure, all at about the same time. */
void report_collect(struct vp_stats *out);

/** Writes what --stats and --summary ask for. At exit, once. */
void report_at_exit(void);

#endif
