// ids: primary keys, of rows known by their ordinals (the @ids columns) or by
// values of a unique field, in one round trip. Those of rows known by their
// ordinals are remembered: an ordinal may have another row by now, so whoever
// recalls an id looks at the row's ordinal.
#ifndef NEAP_MODEL_IDS_H
#define NEAP_MODEL_IDS_H

#include "model/plan.h"
#include "model/row.h"
#include "redis/conn.h"

enum { IDS_REMEMBERED = 4096, IDS_ID_MAX = 40 };

// What a model remembers: the last id seen of an ordinal, by the ordinal's last
// bits. All zero is a memory of nothing.
struct ids_memory {
    struct ids_slot {
        uint32_t ordinal;
        uint16_t len; // 0: nothing is remembered
        char id[IDS_ID_MAX];
    } * slots; // NULL until there is something to remember
};

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

// ids_remember notes the id of an ordinal, ids_forget that it is not known.
// Ids longer than IDS_ID_MAX are not remembered.
void ids_remember(struct ids_memory *m, uint32_t ordinal, struct value id);
void ids_forget(struct ids_memory *m, uint32_t ordinal);

// ids_recall gives the ids of all `count` ordinals, or false if one of them is
// not remembered. They point into the memory.
bool ids_recall(const struct ids_memory *m, const uint32_t *ordinals,
                uint32_t count, struct value *ids);

// ids_memory_clear frees what a memory holds.
void ids_memory_clear(struct ids_memory *m);

#endif
