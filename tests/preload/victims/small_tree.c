/*
 * small_tree NODES: an unbalanced search tree of small blocks, built from random keys, walked, half of it freed, and walked
 * again.
 */
#include "victim.h"

struct node {
    struct node *less, *more;
    uint64_t key, check;
};

static uint64_t sum, nodes;

static void insert(struct node **at, uint64_t key)
{
    while (*at)
        at = key < (*at)->key ? &(*at)->less : &(*at)->more;
    *at = malloc(sizeof **at);
    CHECK(*at);
    **at = (struct node){NULL, NULL, key, mix64(key)};
}

static void walk(const struct node *at)
{
    for (; at; at = at->more) {
        walk(at->less);
        CHECK(at->check == mix64(at->key));
        sum = sum * 31 + at->key;
        nodes++;
    }
}

static void drop(struct node *at)
{
    if (!at)
        return;
    drop(at->less);
    drop(at->more);
    free(at);
}

int main(int argc, char **argv)
{
    const size_t count = argument(argc, argv, 1, 100000);
    struct node *root = NULL;
    uint64_t seed = 7;
    for (size_t i = 0; i < count; i++)
        insert(&root, random_next(&seed));
    walk(root);
    printf("%llu nodes, sum %llu\n", (unsigned long long)nodes, (unsigned long long)sum);
    drop(root->less);
    root->less = NULL;
    for (size_t i = 0; i < count / 4; i++)
        insert(&root, random_next(&seed));
    nodes = 0;
    walk(root);
    printf("%llu nodes, sum %llu\n", (unsigned long long)nodes, (unsigned long long)sum);
    return 0;
}
