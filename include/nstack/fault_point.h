/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/fault_point.h - named places where a test lets the process die
 *
 * A point is one instruction that does nothing, and a note of its name and address in a section of the
 * file that is never loaded. A test writes a trap over the instruction in a running process
 * (tests/lib/faults.py), which then ends there as if by kill -9: no handler of it runs, nothing is
 * unwound, and it is the very binary that users run. `strip` takes the notes away and nothing else.
 *
 * Points stand between the steps of what others can see half done: shared memory, messages, tables.
 */
#ifndef NSTACK_FAULT_POINT_H
#define NSTACK_FAULT_POINT_H

/* name: a string literal, unique by what it stands for; it may be in the file several times (inlining).
 * The clobber keeps the steps on either side in order, as far as the compiler goes. */
#define NST_FAULT_POINT(name)                                                                      \
	__asm__ volatile("771:\tnop\n"                                                             \
			 "\t.pushsection .nstack.faults,\"\",%%progbits\n"                         \
			 "\t.8byte 771b\n"                                                         \
			 "\t.asciz \"" name "\"\n"                                                 \
			 "\t.popsection" ::: "memory")

#endif
