/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who breaks an agreement: the find functions of the table in agreements.c, in its order. NULL: it
 * does not apply; else, newly allocated, what {} of the row's message stands for. Pure.
 */
#pragma once

#include "request-build.h"

char *hv_find_ondemand(const HvBuild *build);
char *hv_find_anonymous(const HvBuild *build);
char *hv_find_memfd_bare(const HvBuild *build);
char *hv_find_memfd_old(const HvBuild *build);
char *hv_find_memfd_unknown(const HvBuild *build);
char *hv_find_shared_without_cells(const HvBuild *build);
char *hv_find_file_source(const HvBuild *build);
char *hv_find_file_cell(const HvBuild *build);
char *hv_find_locked_limit(const HvBuild *build);
char *hv_find_locked_virtio_mem(const HvBuild *build);
char *hv_find_virtio_mem(const HvBuild *build);
char *hv_find_virtio_mem_old(const HvBuild *build);
char *hv_find_free_page_reporting(const HvBuild *build);
char *hv_find_balloon(const HvBuild *build);
char *hv_find_sev_unlocked(const HvBuild *build);
char *hv_find_guest_memfd(const HvBuild *build);
char *hv_find_s390_pv(const HvBuild *build);
char *hv_find_unknown_encryption(const HvBuild *build);
char *hv_find_discard_old(const HvBuild *build);
char *hv_find_discard_without_effect(const HvBuild *build);
char *hv_find_blob(const HvBuild *build);
