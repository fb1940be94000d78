// batch_test: writes as they are packed for apply.lua, and how they are merged
// with what somebody else wrote.
#include <stdio.h>

#include "model_fixture.h"

#include "model/batch.h"

static struct schema schema;

static int set_up(void **state) {
    (void)state;
    person_schema(&schema);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    schema_clear(&schema);
    return 0;
}

// id, age, at, email, gender, name, note, score
static const char *const ada[] = {"1", "36",  "5.5", "a@b",
                                  "f", "Ada", "n",   "300"};

static struct row *person(const char *const *texts, const char *version) {
    struct row *r = make_row(F_COUNT, texts);
    memcpy(r->version, version, ROW_VERSION);
    r->ordinal = 7;
    return r;
}

// ada_with is ada but for one field.
static struct row *ada_with(int field, const char *value, const char *version) {
    const char *texts[F_COUNT];
    memcpy(texts, ada, sizeof texts);
    texts[field] = value;
    return person(texts, version);
}

static struct write *new_write(enum write_kind kind, struct row *old,
                               struct row *new) {
    struct write *w = xcalloc(1, sizeof *w);
    w->kind = kind;
    w->old = old;
    w->new = new;
    w->id = xstrdup("1");
    w->id_len = 1;
    return w;
}

static void free_write(struct write *w) {
    free(w->old);
    free(w->new);
    free(w->id);
    free(w->increments);
    free(w);
}

static uint64_t mask(uint32_t field) {
    return (uint64_t)1 << field;
}

// spell appends what was packed as text: [1 'a' [2] {1 'b'}].
static void spell(struct unpack *u, struct buf *out) {
    bool is_array = unpack_is_array(u), is_map = (*u->p & 0xf0) == 0x80;
    if (is_array || is_map) {
        buf_addc(out, is_array ? '[' : '{');
        uint32_t n = is_array ? unpack_array(u) : unpack_map(u) * 2;
        for (uint32_t i = 0; i < n && !u->is_bad; i++) {
            buf_adds(out, i ? " " : "");
            spell(u, out);
        }
        buf_addc(out, is_array ? ']' : '}');
        return;
    }
    bool is_bytes = (*u->p & 0xe0) == 0xa0 || (*u->p >= 0xd9 && *u->p <= 0xdb);
    if (!is_bytes) {
        buf_printf(out, "%lld", (long long)unpack_int(u));
        return;
    }
    size_t len;
    const char *p = unpack_bytes(u, &len);
    buf_addc(out, '\'');
    for (size_t i = 0; i < len; i++) {
        bool is_plain = p[i] >= 32 && p[i] < 127;
        buf_printf(out, is_plain ? "%c" : "\\%d", (unsigned char)p[i]);
    }
    buf_addc(out, '\'');
}

// assert_packed spells all values in b, with spaces between them, and empties
// it.
static void assert_packed(struct buf *b, const char *expected) {
    struct unpack u = unpack_from(b);
    struct buf text = {0};
    while (u.p < u.end && !u.is_bad) {
        buf_adds(&text, text.len ? " " : "");
        spell(&u, &text);
    }
    assert_false(u.is_bad);
    assert_string_equal(buf_cstr(&text), expected);
    buf_clear(&text);
    buf_clear(b);
}

// assert_write packs a write of a schema, and frees it: the row, what it enters
// by key, and no expiries.
static void assert_write_of(const struct schema *s, struct write *w,
                            const char *expected) {
    struct buf b = {0};
    assert_int_equal(batch_pack_rows(s, w, 1, SIZE_MAX, "create", &b), 1);
    assert_packed(&b, expected);
    free_write(w);
}

static void assert_write(struct write *w, const char *expected) {
    assert_write_of(&schema, w, expected);
}

#define ADA                                                                    \
    "'age' '36' 'at' '5.5' 'email' 'a@b' 'gender' 'f' 'name' 'Ada' "           \
    "'note' 'n' 'score' '300'"
#define NAMES  "['age' 'at' 'email' 'gender' 'name' 'note' 'score']"
#define VALUES "['36' '5.5' 'a@b' 'f' 'Ada' 'n' '300']"
#define REST   "[8 15 'a@b' 3 21 'Ada']"
#define BULK                                                                   \
    "[5 5 1 1 '/' 6 10 '' 2 0 '5.5' 1 17 '=f' 2 0 '1' "                        \
    "5 29 4 1 '\\0\\0\\1-' 6 30 '' 2 0 '300']"
#define ENTER                                                                  \
    "[5 5 1 '/' 6 10 '5.5' 8 15 'a@b' 1 17 '=f' 3 21 'Ada' "                   \
    "5 29 4 '\\0\\0\\1-' 6 30 '300']"
#define LEAVE                                                                  \
    "[5 5 1 '\\0' 7 10 9 15 'a@b' 2 17 '=f' 4 21 'Ada' "                       \
    "5 29 4 '\\0\\0\\0\\0' 7 30]"

static void a_create_packs_the_whole_row(void **state) {
    (void)state;
    struct write *w = new_write(WRITE_CREATE, NULL, person(ada, "##########"));
    w->life = 1500;
    assert_write(w, "[] '' 0 'create\\0\\0\\0\\0' '' ['{p}:1'] " NAMES
                    " " VALUES " 1 [[15 'a@b']] [" REST "] [1500] " BULK);
    w = new_write(WRITE_UPSERT, NULL, person(ada, "##########"));
    w->dirty = mask(F_AGE); // only for the save that it may become
    assert_write(w, "[] '' 6 'create\\0\\0\\0\\0' '' ['{p}:1'] " NAMES
                    " " VALUES " 1 [[15 'a@b']] [" REST "] 0 " BULK);
    // one without values, whose id the counter gives
    const char *blank[F_COUNT] = {"1"};
    w = new_write(WRITE_CREATE, NULL, person(blank, "##########"));
    w->id_len = 0;
    w->life = -1;
    assert_write(w, "[] '' 0 'create\\0\\0\\0\\0' '' 1 [] [] 1 0 0 [-1] "
                    "[1 17 '?' 2 0 '1' 1 21 '?' 2 0 '1']");
}

static void new_rows_share_names_and_say_what_they_lack(void **state) {
    (void)state;
    static const char *const bob[] = {"2",  "40", NULL, NULL,
                                      NULL, NULL, NULL, NULL};
    static const char *const cid[] = {"3",  NULL, NULL, "c@d",
                                      NULL, NULL, NULL, NULL};
    struct write *a = new_write(WRITE_CREATE, NULL, person(bob, "##########"));
    struct write *b = new_write(WRITE_CREATE, NULL, person(cid, "##########"));
    b->id[0] = '2';
    a->next = b;
    struct buf packed = {0};
    assert_int_equal(
        batch_pack_rows(&schema, a, 2, SIZE_MAX, "create", &packed), 2);
    assert_packed(&packed,
                  "[] '' 0 'create\\0\\0\\0\\0' '' ['{p}:1' '{p}:2'] "
                  "['age' 'email'] ['40' 0 0 'c@d'] 0 [0 [15 'c@d']] "
                  "[0 [8 15 'c@d']] 0 "
                  "[5 5 1 1 '3\\0' 1 17 '?' 2 0 '3' 1 21 '?' 2 0 '3']");
    assert_memory_equal(a->new->version, "create\0\0\0\0", ROW_VERSION);
    assert_memory_equal(b->new->version, "create\0\0\0\0", ROW_VERSION);
    assert_int_equal(b->claimed[0], F_EMAIL);
    free_write(a);
    free_write(b);
}

// Creates beside upserts, or with ids beside without, go row by row.
static void new_rows_of_two_kinds_are_no_columns(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct write *a =
            new_write(WRITE_CREATE, NULL, person(ada, "##########"));
        struct write *b = new_write(i ? WRITE_UPSERT : WRITE_CREATE, NULL,
                                    person(ada, "##########"));
        b->id_len = i ? 1 : 0;
        a->next = b;
        struct buf packed = {0}, text = {0};
        assert_int_equal(
            batch_pack_rows(&schema, a, 2, SIZE_MAX, "create", &packed), 2);
        buf_printf(&text,
                   "[0 '1' '' 'create\\0\\0\\0\\0' 14 0 [15 'a@b'] " ENTER
                   " '' 0 " ADA
                   " %s '' 'create\\0\\0\\0\\0' 14 0 [15 'a@b'] " ENTER
                   " '' 0 " ADA "] ''",
                   i ? "6 '1'" : "0 ''");
        assert_packed(&packed, buf_cstr(&text));
        buf_clear(&text);
        free_write(a);
        free_write(b);
    }
}

static void a_save_packs_what_is_dirty(void **state) {
    (void)state;
    struct write *w = new_write(WRITE_SAVE, person(ada, "create\0\0\1\xff"),
                                ada_with(F_EMAIL, "x", "##########"));
    w->dirty = mask(F_EMAIL) | mask(F_ID);
    assert_write(w, "[1 '1' 'create\\0\\0\\1\\255' 'create\\0\\0\\2\\0' 2 "
                    "0 [15 'x'] [9 15 'a@b' 8 15 'x'] '' 0 'email' 'x'] ''");
    w = new_write(WRITE_SAVE, person(ada, "create\0\0\0\0"),
                  ada_with(F_NAME, NULL, "##########"));
    w->dirty = mask(F_NAME) | mask(F_NOTE);
    assert_write(w, "[1 '1' 'create\\0\\0\\0\\0' 'create\\0\\0\\0\\1' 2 "
                    "['name'] 0 [4 21 'Ada' 1 21 '?'] '' 0 'note' 'n'] ''");
    // nothing is dirty: only the version and the life change
    w = new_write(WRITE_SAVE, person(ada, "create\0\0\0\0"),
                  person(ada, "##########"));
    w->life = 5;
    assert_write(w, "[1 '1' 'create\\0\\0\\0\\0' 'create\\0\\0\\0\\1' "
                    "0 0 0 0 '' 5] ''");
}

static void a_save_of_an_unknown_row_finds_out_by_a_conflict(void **state) {
    (void)state;
    struct write *w = new_write(WRITE_SAVE, NULL, NULL);
    w->increments = xcalloc(1, sizeof w->increments[0]);
    w->increment_count = 1;
    assert_write(w, "[1 '1' '' '' 0 0 0 0 '' 0] ''");
}

static void deletes_and_sweeps_leave_every_index(void **state) {
    (void)state;
    struct row *r = person(ada, "create\0\0\0\3");
    assert_write(new_write(WRITE_DELETE, row_copy(r), NULL),
                 "[2 '1' 'create\\0\\0\\0\\3' '' 0 0 0 " LEAVE " '' 0] ''");
    assert_write(new_write(WRITE_SWEEP, r, NULL),
                 "[5 '1' 'create\\0\\0\\0\\3' '' 0 0 0 " LEAVE " '' 0] ''");
}

static void an_index_write_enters_all_or_what_is_built(void **state) {
    (void)state;
    struct row *r = person(ada, "create\0\0\0\0");
    struct write *w = new_write(WRITE_INDEX, row_copy(r), NULL);
    w->is_whole = true;
    w->life = INDEX_RENUMBER;
    assert_write(w, "[4 '1' 'create\\0\\0\\0\\0' '' 0 0 [15 'a@b'] " ENTER
                    " '' 2] ''");
    schema.fields[F_NAME].is_building = true;
    w = new_write(WRITE_INDEX, row_copy(r), NULL);
    assert_write(w, "[4 '1' 'create\\0\\0\\0\\0' '' 0 0 [15 'a@b'] "
                    "[3 21 'Ada'] '' 0] ''");
    schema.fields[F_NAME].is_building = false;
    w = new_write(WRITE_INDEX, r, NULL);
    assert_write(w, "[4 '1' 'create\\0\\0\\0\\0' '' 0 0 [15 'a@b'] 0 '' 0] "
                    "''");
}

// with_increments adds them to a write.
static struct write *
with_increments(struct write *w, const struct increment *list, uint32_t count) {
    w->increments = xcalloc(count, sizeof list[0]);
    memcpy(w->increments, list, count * sizeof list[0]);
    w->increment_count = count;
    return w;
}

static void increments_name_limits_and_indexes(void **state) {
    (void)state;
    static const struct increment list[] = {{F_AGE, 1}, {F_SCORE, -70000}};
    static const char expected[] = "'age' '1' 1 '-10' '150' 0 5 1 '-10' "
                                   "'score' '-70000' 1 '0' '70000' 30 29 4 '0'";
    struct buf text = {0};
    buf_printf(&text, "[3 '1' '' '' 18 0 0 0 '' 0 %s] ''", expected);
    assert_write(
        with_increments(new_write(WRITE_INCREMENT, NULL, NULL), list, 2),
        buf_cstr(&text));
    // of an old row only which life it is counts
    text.len = 0;
    buf_printf(&text, "[3 '1' 'create' '' 18 0 0 0 '' 0 %s] ''", expected);
    struct row *old = person(ada, "create\0\0\0\5");
    assert_write(
        with_increments(new_write(WRITE_INCREMENT, old, NULL), list, 2),
        buf_cstr(&text));
    buf_clear(&text);
}

static void increments_without_limits_have_none(void **state) {
    (void)state;
    struct schema s;
    book_schema(&s);
    static const struct increment list[] = {{B_RANK, -0.1}};
    assert_write_of(
        &s, with_increments(new_write(WRITE_INCREMENT, NULL, NULL), list, 1),
        "[3 '1' '' '' 9 0 0 0 '\\0\\0\\0\\0\\0\\0\\0\\1' 0 "
        "'rank' '-0.1' 0 '' '' 22 0 0 '0'] ''");
    schema_clear(&s);
}

static void ids_are_packed_as_their_column_has_them(void **state) {
    (void)state;
    static const struct {
        enum field_type type;
        const char *id, *packed;
    } list[] = {
        {FIELD_STRING, "x", "''"},
        {FIELD_BYTES, "x", "''"},
        {FIELD_INTEGER, "", "'\\0\\0\\0\\0\\0\\0\\0\\0'"},
        {FIELD_INTEGER, "258", "'\\0\\0\\0\\0\\0\\0\\1\\2'"},
        {FIELD_INTEGER, "-1", "'\\255\\255\\255\\255\\255\\255\\255\\255'"},
        {FIELD_INTEGER, "9007199254740992", "'\\0 \\0\\0\\0\\0\\0\\0'"},
        {FIELD_UUID, "00010203-0405-0607-0809-0a0b0c0d0eff",
         "'\\0\\1\\2\\3\\4\\5\\6\\7\\8\\9\\10\\11\\12\\13\\14\\255'"},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct schema s;
        struct buf text = {0};
        begin_schema(&s, "m", list[i].type);
        finish_schema(&s);
        struct write *w = new_write(WRITE_CREATE, NULL, NULL);
        bool is_given = list[i].id[0] != '\0';
        w->new = make_row(1, &list[i].id);
        free(w->id);
        w->id = xstrdup(list[i].id);
        w->id_len = strlen(w->id);
        buf_printf(&text,
                   "[] '' 0 'create\\0\\0\\0\\0' %s %s%s%s [] [] 1 0 0 0 "
                   "[]",
                   list[i].packed, is_given ? "['{m}:" : "1", list[i].id,
                   is_given ? "']" : "");
        assert_write_of(&s, w, buf_cstr(&text));
        buf_clear(&text);
        schema_clear(&s);
    }
}

static void batches_begin_with_keys_and_name_the_expiries(void **state) {
    (void)state;
    struct schema s;
    struct buf b = {0}, text = {0};
    begin_schema(&s, "m", FIELD_UUID);
    add_field(&s, "v", FIELD_STRING)->is_unique = true;
    finish_schema(&s);
    batch_pack_head(&s, (uint64_t)1 << 40, true, &b);
    assert_int_equal(batch_pack_rows(&s, NULL, 5, SIZE_MAX, "create", &b), 0);
    buf_printf(&text,
               "'%s' 1099511627776 1 '{m}:' '{m}/@rows.' '{m}/@ids.' 16 1023 "
               "'{m}/@stamps' {7 '{m}/v!'} [] ''",
               s.generation);
    assert_packed(&b, buf_cstr(&text));
    s.has_ttl = true;
    batch_pack_rows(&s, NULL, 5, SIZE_MAX, "create", &b);
    assert_packed(&b, "[] '{m}/@expires'");
    buf_clear(&text);
    schema_clear(&s);
}

// chain makes a queue of `count` writes of Ada, the last of another kind.
static struct write *chain(struct write *list[], uint32_t count,
                           enum write_kind last) {
    for (uint32_t i = 0; i < count; i++) {
        struct row *r = person(ada, "create\0\0\0\0");
        bool is_create = i + 1 < count || last == WRITE_CREATE;
        list[i] = new_write(is_create ? WRITE_CREATE : last,
                            is_create ? NULL : r, is_create ? r : NULL);
        if (i > 0) {
            list[i - 1]->next = list[i];
        }
    }
    return list[0];
}

// count_bulk packs writes and returns how many elements they enter by key.
static uint32_t count_bulk(struct write *first, uint32_t most, size_t bytes,
                           uint32_t packed) {
    struct buf b = {0};
    assert_int_equal(batch_pack_rows(&schema, first, most, bytes, "create", &b),
                     packed);
    struct unpack u = unpack_from(&b);
    struct buf rows = {0};
    enum { ahead = 12 }; // of what new rows enter by key
    for (int i = 0; i < ahead && u.p < u.end; i++) {
        spell(&u, &rows);
    }
    uint32_t n = u.p < u.end ? unpack_array(&u) : 0;
    assert_false(u.is_bad);
    buf_clear(&rows);
    buf_clear(&b);
    return n;
}

static void only_a_batch_of_new_rows_enters_by_key(void **state) {
    (void)state;
    struct write *list[4];
    uint32_t one = count_bulk(chain(list, 1, WRITE_CREATE), 9, SIZE_MAX, 1);
    assert_true(one > 0);
    free_write(list[0]);
    chain(list, 4, WRITE_DELETE);
    assert_int_equal(count_bulk(list[0], 9, SIZE_MAX, 4), 0);
    assert_int_equal(count_bulk(list[3], 9, SIZE_MAX, 1), 0);
    // the delete does not fit: two more scores each, of two indexes
    assert_int_equal(count_bulk(list[0], 3, SIZE_MAX, 3), one + 2 * 2 * 2);
    // so many bytes are full with one row
    assert_int_equal(count_bulk(list[0], 3, 1, 1), one);
    for (int i = 0; i < 4; i++) {
        free_write(list[i]);
    }
}

// -- merging

static void assert_values(const struct row *r, const char *const *expected) {
    for (uint32_t i = 0; i < F_COUNT; i++) {
        struct value v = row_get(r, i);
        assert_int_equal(v.p == NULL, expected[i] == NULL);
        if (v.p) {
            assert_int_equal(v.len, strlen(expected[i]));
            assert_memory_equal(v.p, expected[i], v.len);
        }
    }
}

// as somebody else wrote it meanwhile
static const char *const theirs[] = {"1", "40", NULL,  "c@d",
                                     "m", NULL, "new", "500"};

static void a_merge_keeps_what_is_not_dirty(void **state) {
    (void)state;
    static const char *const mine[] = {"1",  "37", "6",  "x",
                                       NULL, "Al", NULL, "1"};
    static const char *const merged[] = {"1",  "37", NULL, "c@d",
                                         NULL, NULL, NULL, "500"};
    struct write *w = new_write(WRITE_SAVE, person(ada, "create\0\0\0\0"),
                                person(mine, "##########"));
    w->dirty = mask(F_AGE) | mask(F_GENDER) | mask(F_NOTE);
    struct row *now = person(theirs, "create\0\0\0\4");
    now->ordinal = 70000;
    now->expires_ms = 123;
    assert_int_equal(batch_merge(&schema, w, now, NULL, 0), -1);
    assert_values(w->new, merged);
    assert_ptr_equal(w->old, now);
    assert_int_equal(w->new->ordinal, 70000);
    assert_int_equal(w->new->expires_ms, 123);
    assert_true(w->is_merged);
    assert_int_equal(w->dirty, mask(F_AGE) | mask(F_GENDER) | mask(F_NOTE));
    // what goes out leads from theirs to the merged one
    assert_write(w, "[1 '1' 'create\\0\\0\\0\\4' 'create\\0\\0\\0\\5' "
                    "2 ['gender' 'note'] 0 [5 5 1 '0' 2 17 '=m' 1 17 '?'] "
                    "'' 0 'age' '37'] ''");
}

static void a_merged_delete_leaves_what_is_there_now(void **state) {
    (void)state;
    struct write *w =
        new_write(WRITE_DELETE, person(ada, "create\0\0\0\0"), NULL);
    struct row *now = person(theirs, "create\0\0\0\4");
    assert_int_equal(batch_merge(&schema, w, now, NULL, 0), -1);
    assert_null(w->new);
    assert_ptr_equal(w->old, now);
    assert_write(w, "[2 '1' 'create\\0\\0\\0\\4' '' 0 0 0 "
                    "[5 5 1 '\\0' 9 15 'c@d' 2 17 '=m' 2 21 '?' "
                    "5 29 4 '\\0\\0\\0\\0' 7 30] '' 0] ''");
}

static void increments_add_to_what_is_there_now(void **state) {
    (void)state;
    static const struct increment list[] = {{F_AGE, 10}, {F_SCORE, -500}};
    static const char *const merged[] = {"1", "50", NULL,  "c@d",
                                         "m", "Al", "new", "0"};
    const char *mine[F_COUNT];
    memcpy(mine, ada, sizeof mine);
    mine[F_NAME] = "Al";
    struct write *w = new_write(WRITE_SAVE, person(ada, "create\0\0\0\0"),
                                person(mine, "##########"));
    w->dirty = mask(F_NAME);
    with_increments(w, list, 2);
    // a second conflict begins anew: nothing is added twice
    for (int i = 0; i < 2; i++) {
        struct row *now = person(theirs, "create\0\0\0\4");
        assert_int_equal(batch_merge(&schema, w, now, NULL, 0), -1);
        assert_values(w->new, merged);
        assert_int_equal(w->dirty, mask(F_NAME) | mask(F_AGE) | mask(F_SCORE));
    }
    assert_write(w, "[1 '1' 'create\\0\\0\\0\\4' 'create\\0\\0\\0\\5' "
                    "6 0 0 [5 5 1 '=' 2 21 '?' 3 21 'Al' "
                    "5 29 4 '\\0\\0\\0\\1' 6 30 '0'] '' 0 "
                    "'age' '50' 'name' 'Al' 'score' '0'] ''");
    // without a row of its own, too
    w = with_increments(new_write(WRITE_SAVE, NULL, NULL), list, 1);
    struct row *now = person(theirs, "create\0\0\0\4");
    assert_int_equal(batch_merge(&schema, w, now, NULL, 0), -1);
    struct value v = row_get(w->new, F_AGE);
    assert_memory_equal(v.p, "50", v.len);
    assert_int_equal(w->dirty, mask(F_AGE));
    free_write(w);
}

// assert_increment adds to a number (or to null) of a schema's field 1.
static void assert_increment(const struct schema *s, const char *from,
                             double by, const char *to, bool is_wrong) {
    char error[64] = "";
    struct increment up = {1, by};
    struct write *w =
        with_increments(new_write(WRITE_SAVE, NULL, NULL), &up, 1);
    struct row *now = make_row(2, (const char *[]){"1", from});
    int wrong = batch_merge(s, w, now, error, sizeof error);
    if (wrong != (is_wrong ? 1 : -1)) {
        fail_msg("%s + %g", from ? from : "null", by);
    }
    assert_string_equal(error, is_wrong ? to : "");
    struct value v = row_get(w->new, 1);
    assert_int_equal(v.len, strlen(to));
    assert_memory_equal(v.p, to, v.len);
    free_write(w);
}

static void increments_stay_within_limits(void **state) {
    (void)state;
    struct schema s;
    begin_schema(&s, "m", FIELD_STRING);
    struct field *f = add_field(&s, "n", FIELD_NUMBER);
    finish_schema(&s);
    assert_increment(&s, NULL, 0.5, "0.5", false);
    assert_increment(&s, NULL, 0, "0", false);
    assert_increment(&s, "0.1", 0.2, "0.30000000000000004", false);
    assert_increment(&s, "-1.5", 1.5, "0", false);
    assert_increment(&s, "-0", -0.0, "0", false);
    assert_increment(&s, "1e+300", 1e308, "1.00000001e308", false);
    assert_increment(&s, "1e+308", 1e308, "inf", true);
    assert_increment(&s, "-1e+308", -1e308, "-inf", true);
    f->has_min = f->has_max = true;
    f->min = -1;
    f->max = 1.5;
    assert_increment(&s, "1", 0.5, "1.5", false);
    assert_increment(&s, "1", 0.75, "1.75", true);
    assert_increment(&s, "1", -2, "-1", false);
    assert_increment(&s, NULL, -1.25, "-1.25", true);
    f->has_min = f->has_max = false;
    f->type = FIELD_INTEGER;
    assert_increment(&s, "9007199254740991", 1, "9007199254740992", false);
    assert_increment(&s, "9007199254740991", 3, "9007199254740994", true);
    assert_increment(&s, "-9007199254740992", -2, "-9007199254740994", true);
    schema_clear(&s);
}

static void the_field_past_its_limits_is_named(void **state) {
    (void)state;
    static const struct increment list[] = {{F_AGE, 200}, {F_SCORE, 1}};
    char error[4];
    struct write *w =
        with_increments(new_write(WRITE_SAVE, NULL, NULL), list, 2);
    struct row *now = person(theirs, "create\0\0\0\4");
    assert_int_equal(batch_merge(&schema, w, now, error, sizeof error), F_AGE);
    assert_string_equal(error, "240");
    free_write(w);
}

// -- reading

// pack_texts packs the list up to NULL.
static void pack_texts(struct buf *b, const char *const *texts) {
    uint32_t n = 0;
    while (texts[n]) {
        n++;
    }
    pack_array(b, n);
    for (uint32_t i = 0; i < n; i++) {
        pack_str(b, texts[i]);
    }
}

static void rows_are_read_from_their_hashes(void **state) {
    (void)state;
    static const char *const texts[] = {
        "_v", "create1234",    "_n", "70000", "score", "5",  "unknown",
        "x",  "note",          "",   "name",  "Ada",   "id", "2",
        "_e", "1700000000123", NULL};
    static const char *const expected[] = {"1:x", NULL,  NULL, NULL,
                                           NULL,  "Ada", "",   "5"};
    struct buf b = {0};
    pack_texts(&b, texts);
    pack_int(&b, '7'); // what follows looks like a digit
    struct unpack u = unpack_from(&b);
    struct row *r = batch_read_row(&schema, (struct value){"1:x", 3}, &u);
    assert_values(r, expected);
    assert_memory_equal(r->version, "create1234", ROW_VERSION);
    assert_int_equal(r->ordinal, 70000);
    assert_int_equal(r->expires_ms, 1700000000123);
    assert_int_equal(unpack_int(&u), '7');
    assert_false(u.is_bad);
    free(r);
    buf_clear(&b);
}

static void numbers_end_with_their_text(void **state) {
    (void)state;
    static const struct {
        const char *name, *text;
        uint32_t ordinal;
        uint64_t expires_ms;
    } list[] = {
        {"_n", "12", 12, 0},
        {"_n", "0", 0, 0},
        {"_n", "4294967294", 4294967294, 0},
        {"_n", "4294967296", ROW_NO_ORDINAL, 0},
        {"_n", "", ROW_NO_ORDINAL, 0},
        {"_n", "-1", ROW_NO_ORDINAL, 0},
        {"_n", "x", ROW_NO_ORDINAL, 0},
        {"_n", "1x", ROW_NO_ORDINAL, 0},
        {"_e", "12", ROW_NO_ORDINAL, 12},
        {"_e", "", ROW_NO_ORDINAL, 0},
        {"_e", "-5", ROW_NO_ORDINAL, 0},
        {"_e", "1e300", ROW_NO_ORDINAL, 0},
        {"_v", "short", ROW_NO_ORDINAL, 0},
        {"_v", "longer than it may be", ROW_NO_ORDINAL, 0},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct buf b = {0};
        pack_texts(&b, (const char *[]){list[i].name, list[i].text, NULL});
        pack_int(&b, '5');
        struct unpack u = unpack_from(&b);
        struct row *r = batch_read_row(&schema, (struct value){"1", 1}, &u);
        assert_int_equal(r->ordinal, list[i].ordinal);
        assert_int_equal(r->expires_ms, list[i].expires_ms);
        assert_memory_equal(r->version, "\0\0\0\0\0\0\0\0\0\0", ROW_VERSION);
        free(r);
        buf_clear(&b);
    }
}

static void junk_makes_a_row_of_the_key(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } list[] = {
        {"", 0},                     // nothing
        {"\xdd\xff\xff\xff\xff", 5}, // 2^32 - 1 elements that are not there
        {"\xdc\x00", 2},             // half a length
        {"\x05", 1},                 // a number
        {"\xa1x", 2},                // a text
        {"\xc0", 1},                 // nil
        {"\x90", 1},                 // no elements
        {"\x91\xa1x", 3},            // a name without a value
        {"\x92\xa1x", 3},            // the value is missing
        {"\x92\xa1x\xdb\xff\xff\xff\xff", 8}, // it is said to be long
        {"\x92\x01\x02", 3},                  // numbers
        {"\x92\x91\xa1x\x90", 5},             // lists
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        unsigned char *bytes = xmalloc(list[i].len + !list[i].len);
        memcpy(bytes, list[i].bytes, list[i].len);
        struct unpack u = {bytes, bytes + list[i].len, false};
        struct row *r = batch_read_row(&schema, (struct value){"1", 1}, &u);
        assert_int_equal(row_get(r, F_ID).len, 1);
        assert_int_equal(row_get(r, F_AGE).len, 0);
        assert_int_equal(r->ordinal, ROW_NO_ORDINAL);
        free(r);
        free(bytes);
    }
}

static void no_beginning_of_a_row_is_read_past_its_end(void **state) {
    (void)state;
    static const char *const texts[] = {"_v", "create1234", "_n", "12",
                                        "_e", "345",        NULL};
    struct buf b = {0};
    pack_texts(&b, texts);
    for (size_t len = 0; len <= b.len; len++) {
        unsigned char *bytes = xmalloc(len + !len);
        memcpy(bytes, b.data, len);
        struct unpack u = {bytes, bytes + len, false};
        struct row *r = batch_read_row(&schema, (struct value){"1", 1}, &u);
        assert_int_equal(u.is_bad, len < b.len);
        assert_int_equal(r->expires_ms, len < b.len ? 0 : 345);
        free(r);
        free(bytes);
    }
    buf_clear(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_create_packs_the_whole_row),
        cmocka_unit_test(new_rows_share_names_and_say_what_they_lack),
        cmocka_unit_test(new_rows_of_two_kinds_are_no_columns),
        cmocka_unit_test(a_save_packs_what_is_dirty),
        cmocka_unit_test(a_save_of_an_unknown_row_finds_out_by_a_conflict),
        cmocka_unit_test(deletes_and_sweeps_leave_every_index),
        cmocka_unit_test(an_index_write_enters_all_or_what_is_built),
        cmocka_unit_test(increments_name_limits_and_indexes),
        cmocka_unit_test(increments_without_limits_have_none),
        cmocka_unit_test(ids_are_packed_as_their_column_has_them),
        cmocka_unit_test(only_a_batch_of_new_rows_enters_by_key),
        cmocka_unit_test(batches_begin_with_keys_and_name_the_expiries),
        cmocka_unit_test(a_merge_keeps_what_is_not_dirty),
        cmocka_unit_test(a_merged_delete_leaves_what_is_there_now),
        cmocka_unit_test(increments_add_to_what_is_there_now),
        cmocka_unit_test(increments_stay_within_limits),
        cmocka_unit_test(the_field_past_its_limits_is_named),
        cmocka_unit_test(rows_are_read_from_their_hashes),
        cmocka_unit_test(numbers_end_with_their_text),
        cmocka_unit_test(junk_makes_a_row_of_the_key),
        cmocka_unit_test(no_beginning_of_a_row_is_read_past_its_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
