// See ../README.md.
#include <gptoss.hpp>

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iostream>
#include <limits>
#include <sstream>

static void generate(const char* path, const char* prompts, std::size_t count, bool is_text) {
    gptoss::Context context{gptoss::Model(path)};
    gptoss::Sampler sampler;
    sampler.temperature(0.8f).top_p(0.95f);
    gptoss::GenerateOptions options;
    options.sampler = &sampler;
    options.max_tokens = count;
    std::ifstream file(prompts);
    std::string line;
    for (uint64_t seed = 1; std::getline(file, line); seed++) {
        sampler.seed(seed);
        context.reset();
        if (is_text) {
            context.append(line);
        } else {
            std::istringstream numbers(line);
            for (uint32_t token; numbers >> token;) context.append(token);
        }
        context.generate([](uint32_t token) { std::cout << token << ' '; }, options);
        std::cout << '\n';
    }
}

static long allocated_kb() {
    const auto heap = mallinfo2();
    return static_cast<long>((heap.uordblks + heap.hblkhd) / 1024);
}

static long resident_kb() {
    long size = 0, resident = 0;
    malloc_trim(0);
    std::ifstream("/proc/self/statm") >> size >> resident;
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void cycles(const char* path, int count) {
    std::array<long, 5> allocated, resident;
    allocated.fill(std::numeric_limits<long>::max());
    resident = allocated;
    for (int i = 0; i < count; i++) {
        {
            gptoss::Context context(gptoss::Model(path), 512);
            context.append(1u);
        }
        const int fifth = i * 5 / count;
        allocated[fifth] = std::min(allocated[fifth], allocated_kb());
        resident[fifth] = std::min(resident[fifth], resident_kb());
    }
    std::cout << allocated[4] - allocated[1] << ' ' << resident[4] - resident[1] << '\n';
}

int main(int argc, char** argv) {
    const std::string_view command = argc > 1 ? argv[1] : "";
    try {
        if (argc == 4 && command == "cycles")
            cycles(argv[2], std::stoi(argv[3]));
        else if (argc == 5)
            generate(argv[2], argv[3], std::stoul(argv[4]), command == "text");
        else
            return 2;
    } catch (const gptoss::Error& error) {
        std::cerr << gptoss_status_string(error.status()) << ": " << error.what() << '\n';
        return 1;
    }
}
