// walk: along an ordered index, a few entries at a time, while others write.
//
//   struct walk_path path = {.key = key, .low = -INFINITY, .high = INFINITY};
//   struct walk *w = walk_new(conn, &path);
//   walk_more(w, 1024, on_found, me);  // w->found has what comes next
//   ... until w->is_over
//
// Going down is the exact reverse of going up. A row that stands in the index
// throughout is found once; one that moves meanwhile is found once or not at
// all.
#ifndef NEAP_MODEL_WALK_H
#define NEAP_MODEL_WALK_H

#include "model/bits.h"
#include "model/row.h"
#include "redis/conn.h"

struct walk;
typedef void (*walk_fn)(struct walk *w, const char *code, const char *error);

// A row that may match; rows of one group have the same place in the order but
// for what breaks ties.
struct candidate {
    uint32_t ordinal, group;
    uint64_t key; // of the value that it was found by; CANDIDATE_NULL: none
};

#define CANDIDATE_NULL UINT64_MAX

// walk_key_number and walk_key_text return a value's key: of its number, or of
// its escaped bytes.
uint64_t walk_key_number(double v);
uint64_t walk_key_text(const char *escaped, size_t len);

// An ordered index, and which part of it is of interest.
struct walk_path {
    struct buf key; // the walk takes it over
    bool is_lex;    // values and ordinals, rather than ordinals by number
    bool is_descending;
    double low, high;         // by number: both ends included
    struct value least, most; // is_lex: as ZRANGEBYLEX takes them; the caller's
};

struct walk {
    struct conn *conn;
    struct walk_path path;
    bool is_over;
    struct buf found; // of struct candidate
    uint32_t group;   // of those with the value in hand
    uint64_t key;     // of that value
    uint64_t count;   // of walk_count
    walk_fn done;
    void *ctx;
    // where the next read begins
    bool is_begun;
    bool is_placed;   // behind a given entry: it has to be found first
    double score;     // of the last entry read
    uint64_t tie;     // how many of that score lie before the next entry
    uint64_t overlap; // entries that are read again
    // the read in hand
    uint32_t asked, taken; // entries
    bool is_torn;          // it missed its place: it has to begin earlier
    uint32_t member;       // whose score comes next
    char code[32], error[256];
    // the last entry taken over, and what was
    double done_score;
    uint32_t done_member;
    struct buf last;    // is_lex: the last member as it is
    struct bits **seen; // by segment, NULL where there is none
    uint32_t seen_count;
};

// walk_new and walk_free make a walk and end it.
struct walk *walk_new(struct conn *conn, const struct walk_path *path);
void walk_free(struct walk *w);

// walk_begin makes a new walk begin behind the entry of a number and an
// ordinal, whether it is there or not; walk_begin_text behind that of a value
// in an index by bytes. With WALK_GROUP it begins with all of that value.
#define WALK_GROUP UINT32_MAX
void walk_begin(struct walk *w, double score, uint32_t ordinal);
void walk_begin_text(struct walk *w, struct value text, uint32_t ordinal);

// walk_more reads up to `count` further entries; done is called once, with
// NULL or with what went wrong.
void walk_more(struct walk *w, uint32_t count, walk_fn done, void *ctx);

// walk_count only counts the entries of the path, w->count.
void walk_count(struct walk *w, walk_fn done, void *ctx);

// walk_take_out takes what was found so far out of a segment's rows.
void walk_take_out(const struct walk *w, uint32_t segment, struct bits *rows);

#endif
