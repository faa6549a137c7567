/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Planner: from numbers to a plan. Pure: no I/O, no clock, no state; the same
 * world and request give the same plan. before_vm_start, the dry run and the
 * reports all ask here.
 */
#pragma once

#include "room.h"

typedef enum { HV_STEP_DEMOTE, HV_STEP_GROW } HvStepAction;

/* "grow", "demote" */
const char *hv_step_action_name(HvStepAction action);

/* One change of one pool. */
typedef struct {
    HvStepAction action;
    int node;
    guint64 size_kib; /* demote: the larger size */
    guint64 pages;    /* of size_kib */
    guint64 to_kib;   /* demote: the smaller size; grow: 0 */
} HvStep;

typedef struct {
    GArray *steps;      /* HvStep, larger sizes first */
    GArray *missing;    /* guint64 per need of the request: pages that cannot be had */
    HvRefusal *refusal; /* NULL: the VM may start */
} HvPlan;

HvPlan *hv_plan_new(const HvWorld *world, const HvRequest *request);
void hv_plan_free(HvPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvPlan, hv_plan_free)

/* How far an earlier plan for the same start has come: a pool gave less than was planned. */
typedef struct {
    GArray *left;  /* HvStep: of that plan, what has not been done; NULL: all has been undone */
    GArray *spent; /* HvStep: of all plans so far, what fell short, with the pages that it gave */
} HvAttempt;

/* For the whole request, of which the pages that were got are there, free. NULL: the first plan. */
HvPlan *hv_plan_again(const HvWorld *world, const HvRequest *request, const HvAttempt *attempt);

/*
 * The most that steps of this kind may ask of this pool: nothing where one has fallen short in this
 * attempt; what it gave, where that was undone since.
 */
guint64 hv_attempt_limit_pages(const HvAttempt *attempt, HvStepAction action, const HvPool *pool);

/* Pages of one pool to give back now: never more than was added there, never what is promised. */
guint64 hv_plan_give_back_pages(const HvWorld *world, const HvPool *pool);

/*
 * May the pages of a size be handed over to the kernel, by writing 0? They become
 * surplus, which is a debt of the whole pool: the kernel takes it from whoever frees a
 * page or lets go of a promise first. So only where there is nobody it could hit: all
 * pages are hugevm's, in use, and by running VMs that give none back.
 */
gboolean hv_plan_may_hand_over(const HvWorld *world, guint64 size_kib);

/* Of that the part that this kernel decides. */
gboolean hv_plan_is_kernel_sound(const HvSnapshot *snapshot, guint64 size_kib);

/*
 * Free pages of a pool that may be split into smaller ones, as the setting
 * `demote` allows: there is no way back, so by default only those hugevm added.
 */
guint64 hv_plan_demotable_pages(const HvWorld *world, const HvPool *pool);

/* The same for whoever asks about many pools of a size, with its room without overcommit. */
HvRoom hv_plan_room_to_split(const HvWorld *world, guint64 size_kib);
guint64 hv_plan_demotable_pages_within(const HvWorld *world, const HvPool *pool,
                                       const HvRoom *room);

/* Pages of a size that splitting larger ones, step by step, would give. node -1: on all nodes. */
guint64 hv_plan_demotable_into_pages(const HvWorld *world, guint64 size_kib, int node);
