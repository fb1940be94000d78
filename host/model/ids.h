// ids: primary keys, of rows known by their ordinals (the @ids columns) or by
// values of a unique field, in one round trip.
#ifndef NEAP_MODEL_IDS_H
#define NEAP_MODEL_IDS_H

#include "model/plan.h"
#include "model/row.h"
#include "redis/conn.h"

struct ids {
    struct conn *conn;
    const struct schema *schema;
    uint32_t *ordinals;   // of the rows; NULL for unique values
    struct value *values; // their primary keys; p is NULL where there is none
    uint32_t count, pending;
    struct buf bytes;
    // called once; error is NULL, or what went wrong (with its code). The ids
    // are freed after it.
    void (*done)(struct ids *ids, const char *code, const char *error);
    void *ctx;
    char code[32], error[256];
};

typedef void (*ids_fn)(struct ids *ids, const char *code, const char *error);

// ids_of_ordinals reads the ids of `count` rows, at least one.
void ids_of_ordinals(struct conn *conn, const struct schema *s,
                     const uint32_t *ordinals, uint32_t count, ids_fn done,
                     void *ctx);

// ids_of_uniques reads the ids that hold the condition's values, at least one.
void ids_of_uniques(struct conn *conn, const struct schema *s,
                    const struct condition *c, ids_fn done, void *ctx);

#endif
