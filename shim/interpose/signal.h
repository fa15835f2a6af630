/*
 * signal.h: what each thread believes to have blocked of our signals.
 */
#ifndef VP_INTERPOSE_SIGNAL_H
#define VP_INTERPOSE_SIGNAL_H

#include <stdint.h>

/** The calling thread's belief, and giving it one: a new thread has its creator's. */
uint8_t signal_believed(void);
void signal_inherit(uint8_t believed);

#endif
