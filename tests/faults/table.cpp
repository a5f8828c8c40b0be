#include "table.h"

#include <gptoss.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "inject.h"

namespace gptoss::test {

std::string current;

namespace {

std::map<std::string, Row> table;
std::vector<std::string> names;
uint64_t wrongs[5] = {};

unsigned long long number(uint64_t n) { return n; }

}  // namespace

Row& row(const std::string& name) {
    if (!table.count(name)) names.push_back(name);
    return table[name];
}

void wrong(Row& r, Wrong kind, const std::string& what) {
    r.wrong++;
    wrongs[static_cast<int>(kind)]++;
    std::printf("WRONG: %s: %s\n", current.c_str(), what.c_str());
    std::fflush(stdout);
}

void describe(const std::string& name, uint64_t seed, uint64_t at) {
    current = name + ", script " + std::to_string(seed) + ", number " + std::to_string(at);
    alarm(kSeconds);
}

void count_status(Row& r, int status) {
    if (!*gptoss_last_error()) wrong(r, Wrong::Other, "no message");
    r.statuses[gptoss_status_string(static_cast<gptoss_status>(status))]++;
}

int print_table() {
    uint64_t total = 0;
    int passed = 0, failed = 0;
    std::printf("\n%-44s %8s %8s %6s  %s\n", "fault", "injected", "absorbed", "wrong", "status");
    for (const std::string& name : names) {
        const Row& r = table[name];
        std::string statuses;
        for (const auto& [status, n] : r.statuses)
            statuses += (statuses.empty() ? "" : ", ") + status + " " + std::to_string(n);
        std::printf("%-44s %8llu %8llu %6llu  %s\n", name.c_str(), number(r.injected), number(r.absorbed),
                    number(r.wrong), statuses.c_str());
        total += r.injected;
        *(r.wrong == 0 && r.injected > 0 ? &passed : &failed) += 1;
    }
    std::printf("\n%llu faults: crashes %llu, hangs %llu, leaks %llu, wrong tokens %llu, other %llu\n", number(total),
                number(wrongs[0]), number(wrongs[1]), number(wrongs[2]), number(wrongs[3]), number(wrongs[4]));
    std::printf("Vulkan objects left: %s\n", inject::live_objects_text().c_str());
    if (inject::live_objects() != 0) failed++;
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

}  // namespace gptoss::test
