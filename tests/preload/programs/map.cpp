// map COUNT: a std::map of that many nodes, filled in the order of its keys, walked, asked at random, thinned out, and walked.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccd;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53;
    return x ^ x >> 33;
}

static void walk(const std::map<uint64_t, uint64_t> &map)
{
    uint64_t sum = 0, wrong = 0;
    for (const auto &node : map) {
        sum = sum * 31 + node.second;
        wrong += node.second != mix(node.first);
    }
    std::printf("%zu nodes, sum %llx, %llu wrong\n", map.size(), (unsigned long long)sum, (unsigned long long)wrong);
}

int main(int, char **arguments)
{
    const uint64_t count = std::strtoull(arguments[1], nullptr, 10);
    auto &map = *new std::map<uint64_t, uint64_t>; // never given back: node by node is not of interest
    for (uint64_t i = 0; i < count; i++)
        map.emplace_hint(map.end(), i * 3, mix(i * 3));
    walk(map);
    uint64_t found = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        const auto at = map.find(mix(i) % (count * 3));
        found += at != map.end() && at->second == mix(at->first);
    }
    std::printf("%llu found\n", (unsigned long long)found);
    for (auto at = map.begin(); at != map.end();)
        at = at->first % 2 ? map.erase(at) : std::next(at);
    walk(map);
    return 0;
}
