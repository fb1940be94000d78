// plan_test: how the columns are chosen that answer a query, as text, each with
// the reason.
#include "plan_fixture.h"

static void columns_answer_single_conditions(void **state) {
    (void)state;
    // no conditions, no sizes: the live rows are all there is to read
    people("", READ_1 FETCH);
    // a choice has a bitmap of its own
    people("gender=f rows 1000", READ_1 "  and bitmap: gender = f\n" FETCH);
    // a string without limits is a small set until it becomes a bitmap
    people("name=ann rows 50000",
           READ_1 "  and small set or bitmap: name = ann\n" FETCH);
    // within 160 numbers a byte a row costs little, and serves ranges too
    people("age=18 rows 50000", READ_1 "  and packed column: age = 18\n" FETCH);
    // a date is a packed number of days
    books("born=2000-01-01 rows 1000",
          READ_1 "  and packed column: born = 2000-01-01\n" FETCH);
    // long values are cut
    people("name=12345678901234567890123456789012345678901\1~1 rows 10", READ_1
           "  and small set or bitmap: name = "
           "1234567890123456789012345678901234567890... (about 1)\n" FETCH);
    // what is not printable is escaped
    people("name=a\1b~1 rows 10", READ_1
           "  and small set or bitmap: name = a\\x01b (about 1)\n" FETCH);
    // a range of a packed column is tested in memory
    people("age:18..22 rows 50000",
           READ_1 "  and packed column: age between 18 and 22\n" FETCH);
    // without a packed column a range is read from the ordered index, at once
    // for all segments
    people("at:0..3600~2000000 rows 10000000 path 2000000",
           READ_153_AT_ONCE "  and ordered index: at between " HOUR
                            " (about 2,000,000)\n" FETCH);
    // a number with fractions is only in the ordered index: a range of one
    books("rank=1.5~3 rows 1000",
          READ_1 "  and ordered index: rank = 1.5 (about 3)\n" FETCH);
    // references are kept like strings: few rows each
    books("author=5 rows 1000",
          READ_1 "  and small set or bitmap: author = 5\n" FETCH);
    // a list contains a value if the value's set has the row
    books("tags=x~50000 rows 1000000", READ_16_IN_WINDOWS
          "  and small set or bitmap: tags contains x (about 50,000)\n" FETCH);
    // a range of strings is read from the index ordered by bytes
    books(
        "city:Ka..Ke~9000 rows 1000000 path 9000", READ_16_AT_ONCE
        "  and ordered index: city from 'Ka' up to 'Ke' (about 9,000)\n" FETCH);
    // what begins so is such a range
    books("city^Ka~9000 rows 1000000 path 9000", READ_16_AT_ONCE
          "  and ordered index: city begins with 'Ka' (about 9,000)\n" FETCH);
    // of two that leave 600 rows, the bitmaps are the cheaper ones
    people(
        "score:1..1000~30000 name=ann~200000 rows 10000000 path 30000",
        READ_153_AT_ONCE
        "  and small set or bitmap: name = ann (about 200,000)\n"
        "  and ordered index: score between 1 and 1000 (about 30,000)\n" FETCH);
    // 3 entries are less than 40 MB of a packed column
    people("score:1..2~3 rows 10000000 path 3",
           "walk the ordered index of score, score between 1 and 2, upwards (3 "
           "entries)\n" FETCH CREATED);
    // 30,000 entries are more than are sorted in memory, and less than 40 MB
    people("score:1..2~30000 rows 10000000 path 30000", READ_153_AT_ONCE
           "  and ordered index: score between 1 and 2 (about 30,000)\n" FETCH);
    // 3,000,000 entries are more than 40 MB
    people(
        "score:1..2~3000000 rows 10000000 path 3000000", READ_153_IN_WINDOWS
        "  and packed column: score between 1 and 2 (about 3,000,000)\n" FETCH);
    // a range that is open below
    books("city:-inf..Ke~9000 rows 1000000 path 9000", READ_16_AT_ONCE
          "  and ordered index: city up to 'Ke' (about 9,000)\n" FETCH);
}

static void lists_are_alternatives_of_one_condition(void **state) {
    (void)state;
    // each value is read, and shown once
    people("name=ann,bob rows 50000",
           READ_1 "  and small set or bitmap: name one of 2 values\n" FETCH);
    // each value is a range of the ordered index
    books("rank=1.5,2~3 rows 1000",
          READ_1 "  and ordered index: rank one of 2 values (about 3)\n" FETCH);
    // the same by bytes
    books("city=Ulm,Bonn~300 rows 1000", READ_1
          "  and ordered index: city one of 2 values (about 300)\n" FETCH);
    // the condition that leaves more out is read first
    books("tags=x,y marks=3 rows 10000",
          READ_1 "  and small set or bitmap: marks contains 3\n"
                 "  and small set or bitmap: tags one of 2 values\n" FETCH);
    // all choices: nothing is left out by reading them
    people("gender=f,m rows 1000", READ_1 LEAVES("1,000") FETCH);
}

static void nulls_are_found_as_each_index_keeps_them(void **state) {
    (void)state;
    // bitmaps come with one of rows without a value
    people("gender? rows 1000", READ_1
           "  and bitmap of rows without a value: gender has no value\n" FETCH);
    // so do small sets
    people("name? rows 1000", READ_1
           "  and bitmap of rows without a value: name has no value\n" FETCH);
    // and lists: an empty one is a value
    books("tags? rows 1000", READ_1
          "  and bitmap of rows without a value: tags has no value\n" FETCH);
    // a packed column has 0 there
    people("age? rows 1000",
           READ_1 "  and packed column: age has no value\n" FETCH);
    // the packed column is read where the ordered index has the others
    people("score? rows 10000000", READ_153_IN_WINDOWS
           "  and packed column: score has no value\n" FETCH);
    // and anything else elsewhere
    people("age!? rows 1000",
           READ_1 "  and packed column: age has a value\n" FETCH);
    // all but those without a value
    people("gender!? rows 1000", READ_1 "  without bitmap of rows without a "
                                        "value: gender has no value\n" FETCH);
    // an ordered index has the others: all of it is read
    books("city? rows 1000",
          READ_1 "  without ordered index: city has a value\n" FETCH);
    // all of the ordered index has a value
    books("city!? rows 1000",
          READ_1 "  and ordered index: city has a value\n" FETCH);
}

static void negations_leave_out_what_they_name(void **state) {
    (void)state;
    // rows without a value are in no bitmap of a value: they are left out by
    // one of their own
    people("gender!=f rows 1000", READ_1
           "  without bitmap: gender = f, nor those without a value\n" FETCH);
    // the same of small sets
    people("name!=ann,bob rows 1000",
           READ_1 "  without small set or bitmap: name one of 2 values, nor "
                  "those without a value\n" FETCH);
    // and of what lists contain
    books("tags!=x rows 1000",
          READ_1 "  without small set or bitmap: tags contains x, nor those "
                 "without a value\n" FETCH);
    // hardly a row fails it: it is left to the rows
    people("any( gender!= age=18 ) rows 1000", READ_1 LEAVES("1,000") FETCH);
    // a packed column shows the value and its absence
    people("age!=18 rows 100",
           READ_1 "  and packed column: age is not 18\n" FETCH);
    // the same of a range
    people("age!:18..22 rows 100",
           READ_1 "  and packed column: age is not between 18 and 22\n" FETCH);
    // the whole ordered index, without the value's part
    books("city!=Ulm~300 rows 1000",
          READ_1 "  and ordered index: city is not Ulm (about 700)\n" FETCH);
    // the same of a range of numbers
    people("at!:0..9 rows 1000",
           READ_1 "  and ordered index: at is not between 1970-01-01T00:00:00Z "
                  "and 1970-01-01T00:00:09Z\n" FETCH);
    // so few rows fail it that fetching them costs less than reading the whole
    // index
    books("city!^Ka~100 rows 10000", READ_1 LEAVES("10,000") FETCH);
    // and so many that it does not
    books("city!^Ka~300 rows 10000",
          READ_1 "  and ordered index: city does not begin with 'Ka' (about "
                 "9,700)\n" FETCH);
}

static void groups_are_sets_that_are_joined(void **state) {
    (void)state;
    // alternatives are joined first
    people("any( gender=f age=18 ) rows 1000",
           READ_1 "  and any of\n"
                  "    bitmap: gender = f\n"
                  "    or packed column: age = 18\n" FETCH);
    // what holds within one of them is a set of its own
    people("any( gender=f all( age=18 name=ann ) ) rows 1000",
           READ_1 "  and any of\n"
                  "    bitmap: gender = f\n"
                  "    or all of\n"
                  "      packed column: age = 18\n"
                  "      and small set or bitmap: name = ann\n" FETCH);
    // in whatever order they stand
    people("any( all( age=18 name=ann ) gender=f ) rows 1000",
           READ_1 "  and any of\n"
                  "    all of\n"
                  "      packed column: age = 18\n"
                  "      and small set or bitmap: name = ann\n"
                  "    or bitmap: gender = f\n" FETCH);
    // an empty list of an ordered index is nothing to be read
    people("any( at= gender=f ) rows 10000",
           READ_1 "  and any of\n"
                  "    nothing\n"
                  "    or bitmap: gender = f\n" FETCH);
    // what all has to hold needs no set
    people("all( gender=f all( age=18 ) ) rows 100000",
           READ_2_IN_WINDOWS "  and bitmap: gender = f\n"
                             "  and packed column: age = 18\n" FETCH);
    // one alternative is none
    people("any( gender=f ) rows 1000",
           READ_1 "  and bitmap: gender = f\n" FETCH);
    // an empty list finds no row: that is no alternative to be read
    people("any( gender= age=18 ) rows 1000",
           READ_1 "  and packed column: age = 18\n" FETCH);
    // alternatives of alternatives are one set
    people("gender=f any( age=1 any( age=2 name=bob ) ) rows 100000",
           READ_2_IN_WINDOWS "  and bitmap: gender = f\n"
                             "  and any of\n"
                             "    packed column: age = 1\n"
                             "    or packed column: age = 2\n"
                             "    or small set or bitmap: name = bob\n" FETCH);
    // each negation is a set of its own, shown as one condition
    people("any( gender!=f name!=ann ) rows 1000",
           READ_1 "  and any of\n"
                  "    bitmap: gender is not f\n"
                  "    or small set or bitmap: name is not ann\n" FETCH);
    // a range of the ordered index is an alternative as any other
    people("any( at:0..9~5 gender=f~50 ) rows 1000",
           READ_1 "  and any of\n"
                  "    ordered index: at between 1970-01-01T00:00:00Z and "
                  "1970-01-01T00:00:09Z (about 5)\n"
                  "    or bitmap: gender = f (about 50)\n" FETCH);
    // the cheaper clause for what it leaves out comes first
    books("city? any( city=Ulm born? ) rows 1000",
          READ_1 "  and any of\n"
                 "    ordered index: city = Ulm\n"
                 "    or packed column: born has no value\n"
                 "  without ordered index: city has a value\n" FETCH);
}

static void conditions_without_an_index_are_tested_on_the_rows(void **state) {
    (void)state;
    // nothing but the live rows can be read
    people("note=x rows 1000 scan", READ_1 LEAVES("1,000") FETCH);
    // what has an index leaves few rows to be tested
    people("note=x gender=f~5 rows 1000 scan limit 3",
           READ_1 "  and bitmap: gender = f (about 5)\n" LEAVES("5") FETCH
           "stop after 3\n");
    // an alternative that cannot be read finds any row
    people("any( gender=f note=x ) scan rows 1000",
           READ_1 LEAVES("1,000") FETCH);
    // within an alternative, what can be read leaves some rows too many
    people("any( all( gender=f~10 note=x ) name=ann~10 ) scan rows 10000",
           READ_1
           "  and any of\n"
           "    bitmap: gender = f (about 10)\n"
           "    or small set or bitmap: name = ann (about 10)\n" LEAVES("10")
               FETCH);
    // a unique index finds rows by values, not without them
    people("email!=x scan rows 100", READ_1 LEAVES("100") FETCH);
    // neither key holds for each row, so none gives them
    people("any( email=x id=1 ) scan rows 100", READ_1 LEAVES("100") FETCH);
}

static void keys_name_the_rows_outright(void **state) {
    (void)state;
    // a key is a row
    people("id=1", "rows by primary key: id = 1\n" FETCH);
    // the primary key needs no look into an index
    people("id=1,2 email=x", "rows by primary key: id one of 2 values\n" FETCH);
    // what the rows have to fulfil besides is tested on them, index or not
    people("email=x note=y", "rows by unique index: email = x\n" FETCH);
    // no column is read for one row
    people("email=x gender=f any( age=1 note=x )",
           "rows by unique index: email = x\n" FETCH);
    // a key may have no row: it is fetched to be counted
    people("count id=5", "rows by primary key: id = 5\n" FETCH);
}

static void nothing_is_asked_where_nothing_can_match(void **state) {
    (void)state;
    // an empty list
    people("gender=", "nothing can match\n");
    // no row is wanted
    people("limit 0", "nothing can match\n");
    // low is above high
    people("age:9..1", "nothing can match\n");
    // no alternative can hold
    people("gender=f any( age= age:2..1 )", "nothing can match\n");
    // there is no alternative
    people("any( )", "nothing can match\n");
    // there is nothing to be counted
    people("count gender=", "nothing can match\n");
    // not even by key
    people("id=1 gender=", "nothing can match\n");
}

static void few_candidates_are_fetched_at_once(void **state) {
    (void)state;
    // 20 entries of the ordered index are 20 rows: any column of 153 segments
    // costs more
    people("at:0..3600~20 gender=f~5000000 rows 10000000 path 20",
           "walk the ordered index of at, at between " HOUR
           ", upwards (20 entries)\n" TEST FETCH CREATED);
    // 5,000,000 entries are many: the bitmap leaves 2,000 rows, which cost less
    people("at:0..3600~5000000 gender=f~2000 rows 10000000 path 5000000",
           READ_153_IN_WINDOWS
           "  and bitmap: gender = f (about 2,000)\n" LEAVES("2,000") FETCH);
    // each leaves out so many rows that both are read
    people("at:0..3600~5000000 gender=f~5000000 rows 10000000 path 5000000",
           READ_153_AT_ONCE "  and bitmap: gender = f (about 5,000,000)\n"
                            "  and ordered index: at between " HOUR
                            " (about 5,000,000)\n" FETCH);
    // the packed columns are 50 MB, 20 rows are not
    people("name=ann~20 age:18..22~1000000 score:1..1000~900000 rows 10000000 "
           "path 900000",
           READ_153_IN_WINDOWS
           "  and small set or bitmap: name = ann (about 20)\n" LEAVES("20")
               FETCH);
    // not so with a name that many have
    people("name=ann~2000000 age:18..22~5000000 score:1..1000~5000000 rows "
           "10000000 path 5000000",
           READ_153_IN_WINDOWS
           "  and small set or bitmap: name = ann (about 2,000,000)\n"
           "  and packed column: age between 18 and 22 (about 5,000,000)\n"
           "  and packed column: score between 1 and 1000 (about "
           "5,000,000)\n" FETCH);
    // of 200 rows 10 are left: 16 bitmaps cost less than 190 rows
    books("city=Ulm~200 tags=x~50000 rows 1000000", READ_16_AT_ONCE
          "  and ordered index: city = Ulm (about 200)\n"
          "  and small set or bitmap: tags contains x (about 50,000)\n" FETCH);
}

static void a_limit_ends_the_reading_early(void **state) {
    (void)state;
    // the first window of segments has them
    people("limit 10 rows 1000000", READ_16_IN_WINDOWS FETCH "stop after 10\n");
    // 15 rows are in the first window
    people("gender=f~500000 limit 10 offset 5 rows 1000000", READ_16_IN_WINDOWS
           "  and bitmap: gender = f (about 500,000)\n" FETCH "skip 5\n"
           "stop after 10\n");
    // what hardly any row fails is tested on the rows
    people("gender!= rows 1000000 limit 5",
           READ_16_IN_WINDOWS LEAVES("1,000,000") FETCH "stop after 5\n");
    // with both columns the first window has 10 rows
    people(
        "age:18..20~2000000 gender=f~4500000 limit 10 rows 10000000",
        READ_153_IN_WINDOWS
        "  and bitmap: gender = f (about 4,500,000)\n"
        "  and packed column: age between 18 and 20 (about 2,000,000)\n" FETCH
        "stop after 10\n");
    // 20 rows at most, half of which match
    people("name=ann~20 gender=f~5000000 rows 10000000 limit 5",
           READ_153_IN_WINDOWS
           "  and small set or bitmap: name = ann (about 20)\n" LEAVES("20")
               FETCH "stop after 5\n");
}

static void counts_are_made_of_columns_that_are_exact(void **state) {
    (void)state;
    // an ordered index counts a range of its own
    people("count at:0..9~500000 rows 1000000 path 500000",
           "walk the ordered index of at, at between 1970-01-01T00:00:00Z and "
           "1970-01-01T00:00:09Z, upwards (500,000 entries)\n"
           "count them\n");
    // also one of strings
    books("count city^Ka~500000 rows 1000000 path 500000",
          "walk the ordered index of city, city begins with 'Ka', upwards "
          "(500,000 entries)\n"
          "count them\n");
    // the live rows are counted
    people("count rows 1000", READ_1 "count them\n");
    // no row is fetched
    people("count gender=f rows 1000", READ_1 "  and bitmap: gender = f\n"
                                              "count them\n");
    // all columns are read, as fetching 500 rows costs more than 16 bitmaps
    people("count at:0..9~500 gender=f~500000 rows 1000000 path 500",
           READ_16_AT_ONCE
           "  and ordered index: at between 1970-01-01T00:00:00Z and "
           "1970-01-01T00:00:09Z (about 500)\n"
           "  and bitmap: gender = f (about 500,000)\n"
           "count them\n");
    // 5 rows to be fetched cost less than 153 bitmaps
    people("count at:0..9~5 gender=f~5000000 rows 10000000 path 5",
           "walk the ordered index of at, at between 1970-01-01T00:00:00Z and "
           "1970-01-01T00:00:09Z, upwards (5 entries)\n" TEST FETCH);
    // what no column shows has to be looked at
    people("count note=x gender=f scan rows 1000",
           READ_1 "  and bitmap: gender = f\n" LEAVES("500") FETCH);
    // each row is in the index of a required field, which knows how many it has
    people("count by at rows 1000 path 1000",
           "walk the ordered index of at, upwards (1,000 entries)\n"
           "count them\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_answer_single_conditions),
        cmocka_unit_test(lists_are_alternatives_of_one_condition),
        cmocka_unit_test(nulls_are_found_as_each_index_keeps_them),
        cmocka_unit_test(negations_leave_out_what_they_name),
        cmocka_unit_test(groups_are_sets_that_are_joined),
        cmocka_unit_test(conditions_without_an_index_are_tested_on_the_rows),
        cmocka_unit_test(keys_name_the_rows_outright),
        cmocka_unit_test(nothing_is_asked_where_nothing_can_match),
        cmocka_unit_test(few_candidates_are_fetched_at_once),
        cmocka_unit_test(a_limit_ends_the_reading_early),
        cmocka_unit_test(counts_are_made_of_columns_that_are_exact),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
