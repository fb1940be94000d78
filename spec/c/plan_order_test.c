// plan_order_test: how orders and compound indexes are made use of, as text,
// each with the reason.
#include "plan_fixture.h"

static void orders_in_memory_are_by_packed_columns_and_choices(void **state) {
    (void)state;
    // there is no other way: 10 MB of ages
    people("by -age limit 10 rows 10000000", READ_153_AT_ONCE
           "  and packed column of age, to order by\n"
           "sort them by age, descending\n" FETCH "stop after 10\n");
    // three bitmaps say which row has which choice
    people("by gender rows 1000",
           READ_1 "  and bitmaps of choices of gender, to order by\n"
                  "sort them by gender, ascending\n" FETCH);
    // all are wanted: 4 KB cost less than a walk of 900 entries and its tail
    people("by score rows 1000 path 900",
           READ_1 "  and packed column of score, to order by\n"
                  "sort them by score, ascending\n" FETCH);
    // 10 MB of ages cost less than fetching half of the rows
    people("gender=f~5000000 by age limit 20 rows 10000000", READ_153_AT_ONCE
           "  and bitmap: gender = f (about 5,000,000)\n"
           "  and packed column of age, to order by\n"
           "sort them by age, ascending\n" FETCH "stop after 20\n");
    // a page of 20 is chosen before a row is fetched
    people("gender=f~300 by age limit 20 rows 10000",
           READ_1 "  and bitmap: gender = f (about 300)\n"
                  "  and packed column of age, to order by\n"
                  "sort them by age, ascending\n" FETCH "stop after 20\n");
    // the bitmaps of the choices are a column, too
    people("gender=f~500 by gender rows 1000",
           READ_1 "  and bitmap: gender = f (about 500)\n"
                  "  and bitmaps of choices of gender, to order by\n"
                  "sort them by gender, ascending\n" FETCH);
}

static void an_order_is_walked_where_that_ends_early(void **state) {
    (void)state;
    // the walk is in order, and each row is in it: the field is required
    people("by at rows 100", "walk the ordered index of at, upwards\n" FETCH);
    // 20 entries of 10,000,000
    people(
        "by -at limit 20 path 10000000 rows 10000000",
        "walk the ordered index of at, downwards (10,000,000 entries)\n" FETCH
        "stop after 20\n");
    // a range of the order's field is walked, and shows that each row has a
    // value
    people("score:1..50000 by score limit 10 rows 10000000 path 5000000",
           "walk the ordered index of score, score between 1 and 50000, "
           "upwards (5,000,000 entries)\n" FETCH "stop after 10\n");
    // the same where the range has few
    people("at:0..3600~50 by at limit 20 rows 10000000 path 50",
           "walk the ordered index of at, at between " HOUR
           ", upwards (50 entries)\n" FETCH "stop after 20\n");
    // every second row matches: 40 rows are tested, no column is read
    people("gender=f~5000000 by at limit 20 rows 10000000 path 10000000",
           "walk the ordered index of at, upwards (10,000,000 entries)\n" TEST
               FETCH "stop after 20\n");
    // one row in 100 matches: 2,000 entries are tested by their bits, not 2,000
    // rows fetched
    people("gender=f~100000 by at limit 20 rows 10000000 path 10000000",
           READ_153_AT_ONCE "  and bitmap: gender = f (about 100,000)\n"
                            "walk the ordered index of at, upwards (10,000,000 "
                            "entries), testing bits\n" FETCH "stop after 20\n");
    // all are wanted: the bits spare every second row
    people("gender=f~5000000 by at rows 10000000 path 10000000",
           READ_153_AT_ONCE "  and bitmap: gender = f (about 5,000,000)\n"
                            "walk the ordered index of at, upwards (10,000,000 "
                            "entries), testing bits\n" FETCH);
    // 50 rows cost less than 153 bitmaps
    people("at:0..3600~50 gender=f~5000000 by -at rows 10000000 path 50",
           "walk the ordered index of at, at between " HOUR
           ", downwards (50 entries)\n" TEST FETCH);
    // 1,000 rows that would be fetched in vain cost more than 153 bitmaps
    people("at:0..3600~500000 gender=f~5000000 by -at rows 10000000 path "
           "500000 limit 1000",
           READ_153_AT_ONCE
           "  and bitmap: gender = f (about 5,000,000)\n"
           "walk the ordered index of at, at between " HOUR
           ", downwards (500,000 entries), testing bits\n" FETCH
           "stop after 1,000\n");
}

static void few_rows_are_fetched_and_sorted(void **state) {
    (void)state;
    // a walk would pass 200,000 entries for a page of 20
    people("gender=f~1000 by at limit 20 rows 10000000 path 10000000",
           READ_153_AT_ONCE "  and bitmap: gender = f (about 1,000)\n" FETCH
                            "sort the rows by at\n"
                            "stop after 20\n");
    // a walk would pass all entries for 20 rows
    people("name=ann~20 by at limit 20 rows 10000000 path 10000000",
           READ_153_AT_ONCE
           "  and small set or bitmap: name = ann (about 20)\n" FETCH
           "sort the rows by at\n"
           "stop after 20\n");
    // 50 rows are no page: the walk would pass all entries
    books("tags=x~50 by rank limit 100 rows 1000000 path 800000",
          READ_16_AT_ONCE
          "  and small set or bitmap: tags contains x (about 50)\n" FETCH
          "sort the rows by rank\n"
          "stop after 100\n");
    // rows that are named are sorted when they are here
    people("id=1,2 by -age limit 5",
           "rows by primary key: id one of 2 values\n" FETCH
           "sort the rows by age descending\n"
           "stop after 5\n");
}

static void rows_without_a_value_come_last(void **state) {
    (void)state;
    // each entry of the index matches, and there is no tail
    books("rank!? by rank limit 10 rows 1000000 path 900000",
          "walk the ordered index of rank, rank has a value, upwards (900,000 "
          "entries)\n" FETCH "stop after 10\n");
    // 10 rows of 9,000,000 entries: the others are hardly ever asked for
    people(
        "by -score limit 10 rows 10000000 path 9000000",
        "walk the ordered index of score, downwards (9,000,000 entries)\n" TAIL
            FETCH "stop after 10\n");
    // the same by bytes
    books(
        "by city limit 10 rows 1000000 path 800000",
        "walk the ordered index of city, upwards (800,000 entries)\n" TAIL FETCH
        "stop after 10\n");
    // all are wanted: those that the walk leaves over come last
    books("by rank rows 1000000 path 800000",
          READ_16_AT_ONCE "walk the ordered index of rank, upwards (800,000 "
                          "entries), testing bits\n" TAIL FETCH);
    // 3 entries are no page of 10
    books("by rank limit 10 rows 1000000 path 3", READ_16_AT_ONCE
          "walk the ordered index of rank, upwards (3 entries), testing "
          "bits\n" TAIL FETCH "stop after 10\n");
    // bits are tested, and what is left of them has no value
    books("tags=x~50000 by rank limit 10 rows 1000000 path 800000",
          READ_16_AT_ONCE
          "  and small set or bitmap: tags contains x (about 50,000)\n"
          "walk the ordered index of rank, upwards (800,000 entries), testing "
          "bits\n" TAIL FETCH "stop after 10\n");
}

static void a_compound_index_is_walked_for_equal_fields(void **state) {
    (void)state;
    // what it covers needs no bits
    books("city=Ulm~200 born:2000-01-01..2000-12-31~3000 by -born rows 1000000 "
          "path 20",
          "walk the compound index city,born, city = Ulm, born between "
          "2000-01-01 and 2000-12-31, downwards (20 entries)\n" FETCH);
    // its prefix is the condition, its order the order; those without a date
    // are in no such index
    books("city=Ulm~200000 by born limit 10 rows 1000000 path 200000",
          "walk the compound index city,born, city = Ulm, upwards (200,000 "
          "entries)\n" TAIL FETCH "stop after 10\n");
    // without a limit the tail is needed for certain: columns and memory
    books("city=Ulm~200000 by born rows 1000000 path 200000",
          READ_16_AT_ONCE "  and ordered index: city = Ulm (about 200,000)\n"
                          "  and packed column of born, to order by\n"
                          "sort them by born, ascending\n" FETCH);
    // without an order it lacks the rows without a date
    books("city=Ulm~200000 rows 1000000 path 200000", READ_16_AT_ONCE
          "  and ordered index: city = Ulm (about 200,000)\n" FETCH);
    // with a range of its last field it has all that match: 2,000 entries
    // against 500,000
    books("city=Ulm~200000 born:2000-01-01..2000-12-31~300000 rows 1000000 "
          "path 2000",
          "walk the compound index city,born, city = Ulm, born between "
          "2000-01-01 and 2000-12-31, upwards (2,000 entries)\n" FETCH CREATED);
    // prefix, range, order and limit: 5 entries
    books("city=Ulm~200000 born:2000-01-01..2000-12-31~300000 by born limit 5 "
          "rows 1000000 path 60000",
          "walk the compound index city,born, city = Ulm, born between "
          "2000-01-01 and 2000-12-31, upwards (60,000 entries)\n" FETCH
          "stop after 5\n");
    // both equal fields are its prefix
    books("author=7~900 city=Ulm~200000 by rank limit 5 rows 1000000 path 50",
          "walk the compound index author,city,rank, author = 7, city = Ulm, "
          "upwards (50 entries)\n" TAIL FETCH "stop after 5\n");
    // 5 entries, which are the rows
    books("author=7~900 city=Ulm~200000 rank:1..2~90000 rows 1000000 path 5",
          "walk the compound index author,city,rank, author = 7, city = Ulm, "
          "rank between 1 and 2, upwards (5 entries)\n" FETCH CREATED);
    // two authors are no prefix; 900 rows are fetched and sorted
    books("author=7,8~900 city=Ulm~200000 by rank limit 5 rows 1000000 path "
          "1000000",
          READ_16_AT_ONCE "  and small set or bitmap: author one of 2 values "
                          "(about 900)\n" LEAVES("900") FETCH
          "sort the rows by rank\n"
          "stop after 5\n");
    // what it does not cover is tested on its 5 rows
    books("author=7~900 city=Ulm~200000 rank:1..2~90000 tags=x~100000 rows "
          "1000000 path 5",
          "walk the compound index author,city,rank, author = 7, city = Ulm, "
          "rank between 1 and 2, upwards (5 entries)\n" TEST FETCH CREATED);
    // what it covers is counted along it
    books("count author=7~900 city=Ulm~200000 rank:1..2~90000 rows 1000000 "
          "path 5",
          "walk the compound index author,city,rank, author = 7, city = Ulm, "
          "rank between 1 and 2, upwards (5 entries)\n"
          "count them\n");
}

static void further_orders_sort_those_that_are_equal(void **state) {
    (void)state;
    // in memory by the first key, group by group by the second
    people("gender=f~5000000 by age by -at limit 20 rows 10000000",
           READ_153_AT_ONCE "  and bitmap: gender = f (about 5,000,000)\n"
                            "  and packed column of age, to order by\n"
                            "sort them by age, ascending\n" FETCH
                            "sort those that are equal by at descending\n"
                            "stop after 20\n");
    // along the index by the first key
    people("gender=f~5000000 by at by age limit 20 rows 10000000 path 10000000",
           "walk the ordered index of at, upwards (10,000,000 entries)\n" TEST
               FETCH "sort those that are equal by age\n"
           "stop after 20\n");
    // the first key's direction is that of the walk
    books("by -born by city limit 10 rows 1000000 path 900000",
          "walk the ordered index of born, downwards (900,000 entries)\n" TAIL
              FETCH "sort those that are equal by city\n"
          "stop after 10\n");
    // rows that were fetched are sorted by all keys at once
    people("id=1 by age by -gender",
           "rows by primary key: id = 1\n" FETCH
           "sort the rows by age, gender descending\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_in_memory_are_by_packed_columns_and_choices),
        cmocka_unit_test(an_order_is_walked_where_that_ends_early),
        cmocka_unit_test(few_rows_are_fetched_and_sorted),
        cmocka_unit_test(rows_without_a_value_come_last),
        cmocka_unit_test(a_compound_index_is_walked_for_equal_fields),
        cmocka_unit_test(further_orders_sort_those_that_are_equal),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
