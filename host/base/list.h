// list: an intrusive, circular, doubly linked list.
//
//   struct list head; list_init(&head);
//   list_append(&head, &thing->link);
//   struct thing *t = list_entry(head.next, struct thing, link);
#ifndef NEAP_BASE_LIST_H
#define NEAP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define list_entry(node, type, member)                                         \
    ((type *)(void *)((char *)(node)-offsetof(type, member)))

// list_init makes an empty list, or a node that stands in none.
static inline void list_init(struct list *l) {
    l->next = l->prev = l;
}

// list_is_empty also says whether a node stands in no list.
static inline bool list_is_empty(const struct list *l) {
    return l->next == l;
}

// list_append puts a node at the end.
static inline void list_append(struct list *head, struct list *node) {
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

// list_prepend adds a node at the start of a list.
static inline void list_prepend(struct list *head, struct list *node) {
    list_append(head->next, node);
}

// list_remove takes a node out of its list, if it is in one.
static inline void list_remove(struct list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

#endif
