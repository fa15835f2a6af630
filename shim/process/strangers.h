/*
 * strangers.h: processes that a clone instruction outside libc has made of this one. No handler of fork ran, so they are
 * children that nobody has prepared: what our state says of pages is their parent's, and our descriptors act on its
 * memory. Whatever they did to a page, they would do to their parent.
 *
 * Once paging is armed a stranger has no arena. Its memory traps, or is not there (platform.h: fork), and a page that the
 * kernel empties in every child tells what it is: to it all our functions are libc's.
 */
#ifndef VP_PROCESS_STRANGERS_H
#define VP_PROCESS_STRANGERS_H

/** From now on children are strangers. Before paging arms; what fails leaves them as they are. */
void strangers_exclude(void);

/** This child is none: fork() has made it. Before anything asks for the arena. */
void strangers_admit(void);

#endif
