/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef HUGEVM_TESTS_MAPPER_H
#define HUGEVM_TESTS_MAPPER_H

/* Exit status of the mapper: it did not get its pages, or was called wrongly. */
enum { EXIT_USAGE = 2, EXIT_MAPPER = 3 };

/* argv[0] of the mapper. */
extern char mapper_name[];

/*
 * qemu-mapper -uuid UUID ANSWER_FD map|promise DIRECTORY... SIZE:PAGES[@[POLICY:]NODE[,NODE]...]...
 *
 * POLICY is preferred or interleave; without it the nodes are binding.
 * Does not return once the pages are mapped: it is to be killed. What went wrong is written to
 * ANSWER_FD, which is closed without a word when all is well.
 */
int mapper_main(int argc, char **argv);

#endif
